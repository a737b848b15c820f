"""Surrogates over the unit cube, and what is built on them."""
