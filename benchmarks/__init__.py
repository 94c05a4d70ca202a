"""Benchmarks: time of our steps relative to plain loops, and their memory (`make bench`).

Every section is a function ``run(settings) -> dict[str, float]`` in a separate module; its keys go unchanged into
`bench.json`. A new section needs one module and one line in ``SECTIONS`` of ``benchmarks/__main__.py``.
"""

from .clock import Timing, compare, interleave, peak_memory
from .settings import BenchSettings, SyntheticImages, synthetic_images

__all__ = [
    "BenchSettings",
    "SyntheticImages",
    "Timing",
    "compare",
    "interleave",
    "peak_memory",
    "synthetic_images",
]
