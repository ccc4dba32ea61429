"""Conversion: tables as other people have them to rows of the published layout."""
