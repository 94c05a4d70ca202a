"""Stored predictions, logits and cases."""
