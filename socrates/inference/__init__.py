"""A model's probability of each valid answer."""
