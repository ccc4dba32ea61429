"""A base model and its adapter."""
