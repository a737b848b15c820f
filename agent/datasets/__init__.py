"""Rows of data: read, compared, and divided so that the gate's proof holds."""
