"""The laptop's side: copies of what a rented machine makes, and how it stands."""
