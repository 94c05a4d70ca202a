"""CT series with and without lesions: one label for many slices, of which few show a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from movl_monai.phantom.dicom import write_ct_slice
from movl_monai.phantom.kinds import Kind, Plan, Table, choose
from movl_monai.phantom.lesions import CLASS_NAMES
from movl_monai.phantom.thorax import CT_SCANNERS, draw_lumps, draw_thorax, measure_slice, render_slice

__all__ = ["VOLUMES", "Series", "draw_series"]


@dataclass(frozen=True)
class Series:
    """Slices of one series, and the place of the lesions.

    Args:
        label: 1 with lesions, else 0; equal in all series of a patient.
        spacing: of the slices, mm.
        positions: of the slices, mm towards the head, rising.
        files: number in the file name of each slice.
        center: height of the lesions in the patient, mm.
        half_height: of the lesions, mm.
    """

    label: int
    spacing: float
    positions: tuple[float, ...]
    files: tuple[int, ...]
    center: float
    half_height: float

    @property
    def lesions(self) -> tuple[int, ...]:
        """1 for each slice that shows a lesion, else 0."""
        return tuple(int(self.label and abs(z - self.center) < self.half_height) for z in self.positions)


def draw_series(patients: int, series: int, rng: np.random.Generator) -> list[list[Series]]:
    """Draw the series of a split.

    Half of the patients have lesions, in all of their series. A series has 16 to 24 slices, 6 to 8 mm apart; two to
    five neighbouring ones show the lesions.

    Args:
        patients: number of patients.
        series: largest number of series of a patient, each number from 1 on being as frequent.
        rng: random generator.

    Returns:
        Series by patient.
    """
    drawn = []
    for label in choose(np.full(patients, 0.5), rng):
        spacing = round(rng.uniform(6, 8), 1)
        half_height = spacing * rng.uniform(1.35, 2.45)
        center = rng.uniform(-1, 1) * (6 * spacing - half_height)  # inside the shortest series
        of_patient = []
        for _ in range(rng.integers(1, series + 1)):
            count = int(rng.integers(16, 25))
            start = round(-spacing * (count - 1) / 2 + rng.uniform(-0.5, 0.5) * spacing, 2)
            positions = tuple(round(start + spacing * number, 2) for number in range(count))
            files = tuple(map(int, rng.permutation(count) + 1))
            of_patient.append(Series(int(label), spacing, positions, files, center, half_height))
        drawn.append(of_patient)
    return drawn


def _name(plan: Plan) -> str:
    return f"{plan.patient:04d}_{plan.image}"


def _files(plan: Plan) -> list[str]:
    """Return the paths of the slices, from the feet to the head; the order of their names is another."""
    return [f"images/{plan.scanner.name}/{_name(plan)}/{number:03d}.dcm" for number in plan.content.files]


def _write(root: Path, plan: Plan, seed: int, size: int) -> None:
    series: Series = plan.content
    scanner = CT_SCANNERS[plan.scanner.name]
    thorax = draw_thorax(np.random.default_rng([seed, plan.patient]))
    lesion_rng = np.random.default_rng([seed, plan.patient, 0, 1])  # the same lesions in all series of the patient
    lumps = draw_lumps(thorax, z=series.center, half_height=series.half_height, rng=lesion_rng) if series.label else ()
    rng = np.random.default_rng([seed, plan.patient, plan.image])
    pixels = round(size * scanner.matrix_factor)
    spacing = round(scanner.field_mm / pixels, 4)
    corner = np.round(-spacing * (pixels - 1) / 2 + rng.normal(0, 6, size=2), 2)
    x, y = (start + spacing * np.arange(pixels) for start in corner)
    (root / _files(plan)[0]).parent.mkdir(parents=True, exist_ok=True)
    for number, (name, z) in enumerate(zip(_files(plan), series.positions, strict=True)):
        values = render_slice(thorax, x, y, z, lumps=lumps, contrast=scanner.contrast)
        write_ct_slice(
            root / name,
            measure_slice(values, scanner, rng, spacing=spacing),
            scanner,
            seed=seed,
            patient=plan.patient,
            series=plan.image,
            number=len(series.positions) - number,
            position=(*corner, z),
            spacing=(spacing, series.spacing),
        )


def _tables(plans: Sequence[Plan]) -> dict[str, Table]:
    manifest: Table = [("path", "label", "patient_id", "split", "domain", "study", "series")]
    slices: Table = [("path", "series", "slice", "lesion")]
    for plan in plans:
        label = CLASS_NAMES[plan.content.label]
        for number, (path, lesion) in enumerate(zip(_files(plan), plan.content.lesions, strict=True)):
            manifest.append((path, label, *plan.place, f"{plan.patient:04d}", _name(plan)))
            slices.append((path, _name(plan), number, lesion))
    return {"manifest.csv": [manifest[0], *sorted(manifest[1:])], "lesion_slices.csv": slices}


VOLUMES = Kind(
    description="Synthetic CT series of the chest (phantom)",
    class_names=CLASS_NAMES,
    patients=(56, 16, 24, 24),
    images_per_patient=2,
    size=128,
    draw=draw_series,
    names=lambda series: (CLASS_NAMES[series.label],),
    files=_files,
    write=_write,
    tables=_tables,
)
