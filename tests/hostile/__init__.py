"""Files made to exhaust memory, stack, disk or patience, and what becomes of them; `python -m tests.hostile` lists it.

Nothing hostile is kept in the project: every file is generated into a temporary folder.
"""
