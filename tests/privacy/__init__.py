"""Nothing that identifies a patient comes out: unmistakable words go in everywhere, and every output is searched."""
