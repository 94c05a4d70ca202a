"""Benchmarks: how long our steps take beside plain loops, and how much memory they need (`make bench`).

Every section is a function ``run(settings) -> dict[str, float]`` in a module of its own; its keys go into `bench.json`
as they are. A new section is one more module and one more line in ``SECTIONS`` of ``movl_monai/bench/__main__.py``.
"""

from .clock import Timing, compare, interleave
from .data import SyntheticImages, synthetic_images
from .memory import peak_memory
from .settings import BenchSettings

__all__ = [
    "BenchSettings",
    "SyntheticImages",
    "Timing",
    "compare",
    "interleave",
    "peak_memory",
    "synthetic_images",
]
