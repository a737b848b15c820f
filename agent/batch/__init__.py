"""Scheduled runs of many problems under shared caps."""
