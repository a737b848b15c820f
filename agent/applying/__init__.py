"""A released candidate, brought into the user's own files."""
