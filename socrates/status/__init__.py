"""One screen that says how a run on a machine stands."""
