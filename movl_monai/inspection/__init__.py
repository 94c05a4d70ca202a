"""Look into configs, records, checkpoints and exported files without evaluating or loading them."""
