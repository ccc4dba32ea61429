"""Preflight checks: whether a machine can carry a run."""
