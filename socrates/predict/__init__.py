"""A described experiment to predicted answers."""
