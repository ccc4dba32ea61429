"""The laptop's side: verified copies of what a rented machine makes, and its status."""
