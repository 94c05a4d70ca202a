"""An earlier name of :mod:`movl_monai.files`."""

from movl_monai.files import EVALUATED_FILE, clear_leftovers, jsonable, keep_evaluated, to_json, write_atomically

__all__ = ["EVALUATED_FILE", "clear_leftovers", "jsonable", "keep_evaluated", "to_json", "write_atomically"]
