"""Experiments on runs: comparison of methods, robustness, ensembles."""
