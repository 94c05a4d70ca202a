"""`python -m benchmarks`: run the benchmarks, print a table, write `bench.json`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from movl_monai.engines import check_device
from movl_monai.errors import ConfigError

from . import bootstrap_speed, dicom_speed, export_speed, frozen_speed, predict_speed, training_steps, unit_speed
from .settings import BenchSettings
from .table import describe_machine, format_machine, format_table

__all__ = ["SECTIONS", "WANTED", "main", "run_sections"]

SECTIONS: dict[str, Callable[[BenchSettings], dict[str, float]]] = {
    "movl_step": training_steps.run_movl,
    "trainer_overhead": training_steps.run_overhead,
    "linear_probe": frozen_speed.run_linear_probe,
    "features": frozen_speed.run_features,
    "layers": frozen_speed.run_layers,
    "ensemble": frozen_speed.run_ensemble,
    "dvpt_step": training_steps.run_dvpt,
    "prefix_cache": training_steps.run_prefix,
    "segmenter_step": training_steps.run_segmenter,
    "units": unit_speed.run,
    "dicom_native": dicom_speed.run_native,
    "dicom_compressed": dicom_speed.run_compressed,
    "scan": dicom_speed.run_scan,
    "predict": predict_speed.run,
    "bootstrap": bootstrap_speed.run,
    "export_latency": export_speed.run,
}
WANTED = {
    "movl_step_vs_naive": "<= 0.55 on a CPU",
    "trainer_overhead": "<= 1.05",
    "linear_probe_vs_epochs": "<= 0.05",
    "layers_vs_last": "<= 1.03",
    "layers_cnn_vs_last": "<= 1.03",
    "ensemble_vs_sum": "<= 1.05",
    "dvpt_step_vs_bare": "<= 1.15",
    "prefix_cached_vs_uncached": "<= 0.5",
    "segmenter_step_vs_bare": "<= 1.05",
    "unit_step_cached_vs_images": "<= 0.05",
    "dicom_native_vs_monai": "<= 0.35",
    "dicom_native_vs_pydicom": "<= 2",
    "scan_vs_pydicom": "<= 0.83",
    "scan_two_workers_vs_pydicom": "<= 0.56",
    "predict_vs_network": "<= 1.10",
    "predict_vit_vs_network": "<= 1.10",
    "bootstrap_vs_sklearn": "<= 0.05",
}


def run_sections(names: Sequence[str], settings: BenchSettings) -> dict[str, float]:
    """Run sections one after the other and join their figures.

    Raises:
        ValueError: if two sections give the same key.
    """
    figures: dict[str, float] = {}
    for name in names:
        start = time.perf_counter()
        print(f"==> {name}", flush=True)
        found = SECTIONS[name](settings)
        if repeated := sorted(figures.keys() & found.keys()):
            raise ValueError(f"The section {name} gives keys that another has given: {repeated}; rename them.")
        figures |= found
        print(f"    {time.perf_counter() - start:.0f} s", flush=True)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 for any figures: a benchmark informs without judging.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        device = check_device(options.device)
    except ConfigError as error:
        parser.error(str(error))
    settings = BenchSettings.quick(device=device) if options.quick else BenchSettings(device=device)
    facts = describe_machine(device)
    figures = run_sections(options.only or list(SECTIONS), settings)
    _write(options.output, {"quick": options.quick, **facts, **figures})
    print(f"\n{format_machine(facts)}{', quick' if options.quick else ''}\n\n{format_table(figures, WANTED)}\n")
    print(f"Figures: {options.output}")
    return 0


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios of run times, side by side.")
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, no figures to publish")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda[:N]")
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="(default: bench.json)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
