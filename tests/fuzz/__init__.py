"""Damage real files at random and read them; `python -m tests.fuzz --minutes 5` does it for a while."""
