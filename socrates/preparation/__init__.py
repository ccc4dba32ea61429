"""The published answers made ready: which rows train and judge, written whole, and the proof that nothing leaks."""
