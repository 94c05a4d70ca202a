"""Commands of `movl-monai`, one module each."""

from movl_monai.cli.main import main

__all__ = ["main"]
