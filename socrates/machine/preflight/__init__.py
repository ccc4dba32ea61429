"""Whether a machine can carry a run."""
