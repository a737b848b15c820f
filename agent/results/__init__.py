"""What a run found, read after its end."""
