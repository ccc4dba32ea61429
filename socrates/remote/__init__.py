"""From the laptop: a rented machine, and its checkpoints brought here whole."""
