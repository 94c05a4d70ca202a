"""Rendering of DICOM frames by dcmtk, as an independent reference."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

__all__ = ["dcmtk_version", "render"]

_HEADER = re.compile(rb"P([56])\s+(?:#[^\n]*\n)?(\d+)\s+(\d+)\s+(\d+)\s")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")


def render(path: Path, *options: str, frame: int = 0, transfer_syntax: str = "") -> np.ndarray | None:
    """Render one frame with ``dcmj2pnm`` (JPEG-LS: ``dcml2pnm``), without overlays.

    Args:
        path: the file.
        options: of the program, for example ``+Wi 1`` for the first window.
        frame: from 0.
        transfer_syntax: its UID.

    Returns:
        uint8 (H, W), or (H, W, 3) for colour; None if dcmtk does not render the file or is not installed.
    """
    program = shutil.which("dcml2pnm" if transfer_syntax in _JPEG_LS else "dcmj2pnm")
    if program is None:
        return None
    command = [program, "-q", "-O", "+op", "+F", str(frame + 1), *options, str(path)]
    result = subprocess.run(command, capture_output=True, check=False, timeout=60)
    header = _HEADER.match(result.stdout)
    if result.returncode or header is None:
        return None
    kind, columns, rows, largest = (int(group) for group in header.groups())
    values = np.frombuffer(result.stdout[header.end() :], dtype=np.uint8)
    shape = (rows, columns, 3) if kind == 6 else (rows, columns)
    return values.reshape(shape) if largest == 255 and values.size == np.prod(shape) else None


def dcmtk_version() -> str:
    """Return the version of dcmtk, or "not installed"."""
    program = shutil.which("dcmj2pnm")
    if program is None:
        return "not installed"
    text = subprocess.run([program, "--version"], capture_output=True, check=False, text=True, timeout=60).stdout
    found = re.search(r"v(\d[\w.]*)", text)
    return found.group(1) if found else "unknown"
