"""No output identifies a patient: unmistakable words are planted everywhere, and every output is searched."""
