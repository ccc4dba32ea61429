"""Status of a run, on one screen."""
