"""Out-of-distribution scores and their figures."""
