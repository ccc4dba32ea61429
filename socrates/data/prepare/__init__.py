"""The published answers to train, val and test; the proof that nothing leaks."""
