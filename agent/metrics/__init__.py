"""What one output is worth beside the row that it answers."""
