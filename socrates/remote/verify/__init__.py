"""The infrastructure test: criteria and evidence."""
