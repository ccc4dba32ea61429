"""Human answers: read, prepared, checked, tokenized."""
