"""Look at a folder, or at a manifest, before anything is trained on it: `movl-monai ingest` and `movl-monai check`.

The way of a file: :mod:`.examine` reads it in a worker process, :mod:`.journal` keeps what was found, :mod:`.volumes`
groups frames, :mod:`.labels` and :mod:`.manifest` make the list, :mod:`.findings` looks for what is wrong with it, and
:mod:`.page` shows that. README.md beside this file is the manual.
"""
