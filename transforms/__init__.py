"""Transforms of one sample, without learnable state and without knowledge of a network."""
