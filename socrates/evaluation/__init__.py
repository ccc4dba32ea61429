"""The number and the decision."""
