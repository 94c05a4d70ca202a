"""`movl-monai compare`: arms x seeds x draws on one data set, in one table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from movl_monai.bundles import find_bundle
from movl_monai.cli.options import shown_overrides, split_numbers, split_words
from movl_monai.cli.output import show
from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.arms import read_plan
from movl_monai.experiments.compare.comparison import Comparison
from movl_monai.experiments.compare.figure import draw_comparison
from movl_monai.experiments.compare.fraction_choice import parse_fractions
from movl_monai.experiments.compare.fractions import run_fractions, write_fractions
from movl_monai.experiments.compare.jobs import run_jobs
from movl_monai.experiments.compare.statistics import compare_results
from movl_monai.experiments.compare.summary import read_comparison, summary_markdown
from movl_monai.experiments.compare.table import comparison_csv, comparison_html, comparison_markdown
from movl_monai.experiments.compare.work import RunTask
from movl_monai.files import write_atomically
from movl_monai.id_values import parse_overrides

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Run the comparison, print the table, and write comparison.html, .md, .csv and .png."""
    if options.summary:
        return _summarise(options)
    for name in ("bundle", "dataset_dir"):
        if getattr(options, name) is None:
            raise ConfigError(f"--{name} is missing; only --summary works without it.")
    bundle = find_bundle(options.bundle)
    plan = read_plan(options.arms_file or bundle / "compare.json", bundle=bundle, overlays=split_words(options.overlay))
    overrides = parse_overrides(options.overrides)

    def make(fraction: float | None, folder: Path) -> Comparison:
        return Comparison(
            plan,
            arms=split_words(options.arms) if options.arms else plan.suitable(overrides),
            seeds=split_numbers(options.seeds, option="--seeds", example="0,1,2"),
            output_dir=folder,
            dataset_dir=options.dataset_dir,
            budget=options.search,
            overrides=overrides,
            train_images=options.train_images,
            val_images=options.val_images,
            train_fraction=fraction,
            draws=options.draws,
            restart=split_words(options.restart),
        )

    folder, command = Path(options.output_dir), _command(options)
    if options.label_fractions is not None:
        if options.jobs is not None or options.task is not None:
            raise ConfigError(
                "--label_fractions takes neither --jobs nor --task; to run side by side, give the same command again "
                "in another terminal: both share the work."
            )
        _run_fractions(options, make, folder, command)
        return 0
    comparison = make(None, folder)
    if options.task is not None:
        comparison.run_task(_task(comparison, options.task))
        if options.json:
            show(options, "", {"task": options.task})
        return 0
    if options.jobs is not None:
        run_jobs(comparison, options.jobs, _given(options))
    page = write_tables(comparison, comparison.run(), command=command)
    html = folder / "comparison.html"
    text = f"{page}\nPage: {html}; table: comparison.md, comparison.csv, comparison.png"
    show(options, text, {"page": html, "table": folder / "comparison.md", "rows": _rows(folder)})
    return 0


def _summarise(options: argparse.Namespace) -> int:
    """Write and print the summary of finished comparisons."""
    if unused := [name for name in ("bundle", "dataset_dir", "arms") if getattr(options, name)] + options.overrides:
        raise ConfigError(f"--summary takes --output_dir alone; '{unused[0]}' has no meaning there.")
    cells = [cell for source in options.summary for cell in read_comparison(source)]
    references = _references(cells)
    page = summary_markdown(cells, references=references)
    path = Path(options.output_dir) / "summary.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())
    show(options, f"{page}\nSummary: {path}", {"summary": path, "rows": [cell.row for cell in cells]})
    return 0


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a finished comparison."""
    return [dict(cell.row) for cell in read_comparison(folder)]


def _references(cells: Sequence[Any]) -> list[str]:
    """Return the reference arms of the comparisons' differences."""
    names = [key.partition("_minus_")[2] for cell in cells for key in cell.row if "_minus_" in key]
    return [name for name in dict.fromkeys(names) if not name.endswith(("_low", "_high"))]


def _task(comparison: Any, text: str) -> Any:
    """Return the run or search of `--task`, with the arm's own name."""
    arm = text.partition(":")[0]
    named = comparison.plan.aliases.get(arm, arm) + text[len(arm) :]
    task = RunTask.parse(named) if ":" in named else named
    known = [*comparison.searches(), *comparison.tasks()]
    if task not in known:
        raise ConfigError(
            f"--task {text} is not of this comparison; expected one of --arms {','.join(comparison.searches())}, of "
            f"--seeds {','.join(map(str, comparison.seeds))} and a draw below --draws {comparison.draws}, such as "
            f"{comparison.tasks()[0]}."
        )
    return task


def _given(options: argparse.Namespace) -> list[str]:
    """Return the arguments of the comparison, without those that distribute the work."""
    names = ("bundle", "arms_file", "overlay", "dataset_dir", "output_dir", "arms", "seeds", "search")
    named = {name: getattr(options, name) for name in names}
    named |= {"train_images": options.train_images, "val_images": options.val_images, "draws": options.draws}
    pairs = [(f"--{name}", str(value)) for name, value in named.items() if value not in (None, "")]
    return [word for pair in pairs for word in pair] + list(options.overrides)


def _run_fractions(options: argparse.Namespace, make: Any, folder: Path, command: str) -> None:
    """Run the comparison of every fraction, write its tables into its folder, and the curve over all fractions."""
    finished = run_fractions(parse_fractions(options.label_fractions), make, folder)
    for comparison, outcome in finished.values():
        write_tables(comparison, outcome, command=command)
    page, curve = write_fractions(finished, folder, command=command), folder / "label_fractions.png"
    rows = [row | {"fraction": part} for part, (one, _) in finished.items() for row in _rows(one.folder.path)]
    text = f"{page}\nCurve: {curve}, label_fractions.md, label_fractions.csv"
    show(options, text, {"curve": curve, "rows": rows})


def write_tables(comparison: Any, outcome: Any, *, command: str) -> str:
    """Compute the figures, write the four files, and return the table as Markdown."""
    references = comparison.plan.references
    figures = compare_results(outcome.results, references=references, id_domain=comparison.data.test.id_domain)
    if not figures:
        raise ConfigError("No arm has a result: every training diverged. Lower the learning rates.")
    folder = comparison.folder.path
    page = comparison_markdown(comparison, outcome, figures, command=command, picture="comparison.png")
    write_atomically(folder / "comparison.csv", comparison_csv(outcome, figures, references).encode())
    picture = draw_comparison(figures, references=references)
    write_atomically(folder / "comparison.png", picture)
    write_atomically(folder / "comparison.md", page.encode())
    html = comparison_html(comparison, outcome, figures, command=command, picture=picture)
    write_atomically(folder / "comparison.html", html.encode())
    return page


def _command(options: argparse.Namespace) -> str:
    """Return the command with placeholders for the folders: the table may leave this machine."""
    words = ["movl-monai compare", f"--bundle {Path(options.bundle).name}", "--dataset_dir DIR --output_dir OUT"]
    if options.arms_file:
        words.append(f"--arms_file {Path(options.arms_file).name}")
    if options.overlay:
        words.append("--overlay " + ",".join(Path(name).name for name in split_words(options.overlay)))
    named = {"arms": options.arms, "seeds": options.seeds, "search": options.search}
    named |= {"train_images": options.train_images, "val_images": options.val_images}
    named |= {"draws": options.draws if options.draws > 1 else None, "label_fractions": options.label_fractions}
    words += [f"--{name} {value}" for name, value in named.items() if value is not None]
    return " ".join([*words, *shown_overrides(options.overrides)])
