"""What a data file of human answers holds: counted in one pass, told as text, JSON or a page."""
