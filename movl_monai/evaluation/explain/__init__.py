"""Explanations of single predictions: attention and attribution maps."""
