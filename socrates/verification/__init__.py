"""The guide's success criteria of the infrastructure test, decided by evidence."""
