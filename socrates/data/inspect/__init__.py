"""What a data file holds."""
