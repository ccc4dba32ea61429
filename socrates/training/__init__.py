"""A config and its data to checkpoints."""
