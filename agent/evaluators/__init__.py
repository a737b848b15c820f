"""What measures a candidate: a Python callable or a command."""
