"""Whether a machine can carry a run, asked before the run costs money: each line passes, warns or fails."""
