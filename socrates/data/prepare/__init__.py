"""Preparation: the published answers to train, val and test, and the proof that nothing leaks."""
