"""Verification of the infrastructure test: evidence, criteria, verdict."""
