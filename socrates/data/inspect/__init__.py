"""Inspection of a data file."""
