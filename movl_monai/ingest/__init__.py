"""Inspect a folder, or a manifest, before training: `movl-monai ingest` and `movl-monai check`.

:mod:`.examine` reads each file in a worker process, :mod:`.journal` keeps the result, :mod:`.volumes` groups frames,
:mod:`.labels` and :mod:`.manifest` make the list, :mod:`.findings` looks for problems, and :mod:`.page` shows them.
The manual is docs/howto/ingest.md.
"""
