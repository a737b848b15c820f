"""Running candidate code that nobody has looked at."""
