"""The exact distribution of a model's answers over the valid ones."""
