"""Proposers, one file per method."""
