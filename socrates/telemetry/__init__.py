"""Telemetry of a run."""
