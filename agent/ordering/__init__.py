"""Optimization by order alone."""
