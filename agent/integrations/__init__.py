"""Ways in and out: other people's tools."""
