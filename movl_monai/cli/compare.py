"""`movl-monai compare`: arms x seeds x draws on one data set, in one table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from movl_monai.errors import ConfigError

__all__ = ["add_arguments", "run"]

_EPILOG = (
    "Every further `--id value` overrides that id of the config for all arms, e.g. `--image_size 128 --epochs 6`; an "
    "id that is set in this way is not searched. A run that was stopped goes on where it was when the same command is "
    "given again; more arms, seeds, draws or trials can be added later. The same command given twice shares the "
    "work: each takes the searches and runs that the other is not at."
)


_ARMS = (
    "arms to compare (default: all in the arms file); its first reference, such as linear_probe, always joins; for "
    "classification movl stands for joint and lp for linear_probe"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai compare`."""
    parser.add_argument("--bundle", metavar="DIR", help="the bundle, with its arms in compare.json")
    parser.add_argument("--arms_file", metavar="FILE", help="another arms file than the bundle's compare.json")
    parser.add_argument(
        "--overlays", default="", metavar="A.json,...", help="overlays for all arms, e.g. another backbone"
    )
    parser.add_argument("--dataset_dir", metavar="DIR", help="the data set")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="for results, search and table")
    parser.add_argument("--arms", metavar="A,B,...", help=_ARMS)
    parser.add_argument("--seeds", default="0", metavar="0,1,...", help="seeds of the runs (default: 0)")
    parser.add_argument("--search", type=int, default=0, metavar="N", help="trials per arm on val (default: 0, none)")
    parser.add_argument("--train-images", type=int, metavar="K", help="use K training images, the same for all arms")
    parser.add_argument("--val-images", type=int, metavar="K", help="use K validation images, the same for all arms")
    parser.add_argument(
        "--draws",
        type=int,
        default=1,
        metavar="N",
        help="train on N seeded draws of --train-images (and --val-images); intervals hold their chance (default: 1)",
    )
    parser.add_argument(
        "--label-fractions",
        metavar="0.1,...,1.0",
        help="repeat all of it on nested parts of the training patients, and draw the curve",
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="run N searches and runs at once, each in a process of its own"
    )
    parser.add_argument(
        "--task", metavar="ARM:SEED:DRAW", help="do this run alone, without a table; ARM alone does its search"
    )
    parser.add_argument("--restart", default="", metavar="A,...", help="delete these arms' search and results first")
    parser.add_argument(
        "--summary",
        nargs="+",
        metavar="DIR",
        help="summarise finished comparisons (their --output_dir or comparison.csv) in --output_dir/summary.md instead",
    )
    parser.epilog = _EPILOG
    parser.set_defaults(takes_overrides=True)


def run(options: argparse.Namespace) -> int:
    """Run the comparison, print the table, and write comparison.md, comparison.csv and comparison.png."""
    from movl_monai.experiments.compare.arms import read_plan
    from movl_monai.experiments.compare.comparison import Comparison
    from movl_monai.id_values import parse_overrides

    if options.summary:
        return _summarise(options)
    for name in ("bundle", "dataset_dir"):
        if getattr(options, name) is None:
            raise ConfigError(f"--{name} is missing; only --summary works without it.")
    arms_file = options.arms_file or Path(options.bundle) / "compare.json"
    plan = read_plan(arms_file, bundle=options.bundle, overlays=_words(options.overlays))

    def make(fraction: float | None, folder: Path) -> Comparison:
        return Comparison(
            plan,
            arms=_words(options.arms) if options.arms else list(plan.arms),
            seeds=_numbers(options.seeds),
            output_dir=folder,
            dataset_dir=options.dataset_dir,
            budget=options.search,
            overrides=parse_overrides(options.overrides),
            train_images=options.train_images,
            val_images=options.val_images,
            train_fraction=fraction,
            draws=options.draws,
            restart=_words(options.restart),
        )

    folder, command = Path(options.output_dir), _command(options)
    if options.label_fractions is not None:
        if options.jobs is not None or options.task is not None:
            raise ConfigError(
                "--label-fractions takes neither --jobs nor --task; to run side by side, give the same command again "
                "in another terminal: both share the work."
            )
        _run_fractions(make, folder, options.label_fractions, command)
        return 0
    comparison = make(None, folder)
    if options.task is not None:
        comparison.run_task(_task(comparison, options.task))
        return 0
    if options.jobs is not None:
        from movl_monai.experiments.compare.jobs import run_jobs

        run_jobs(comparison, options.jobs, _given(options))
    write_tables(comparison, comparison.run(), command=command)
    return 0


def _summarise(options: argparse.Namespace) -> int:
    """Write and print the summary of finished comparisons."""
    from movl_monai.experiments.compare.summary import read_comparison, summary_markdown
    from movl_monai.files import write_atomically

    if unused := [name for name in ("bundle", "dataset_dir", "arms") if getattr(options, name)] + options.overrides:
        raise ConfigError(f"--summary takes --output_dir alone; '{unused[0]}' has no meaning there.")
    cells = [cell for source in options.summary for cell in read_comparison(source)]
    references = _references(cells)
    page = summary_markdown(cells, references=references)
    path = Path(options.output_dir) / "summary.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())
    print(page)
    print(f"Summary: {path}")
    return 0


def _references(cells: Sequence[Any]) -> list[str]:
    """Return the reference arms of the comparisons' differences."""
    names = [key.partition("_minus_")[2] for cell in cells for key in cell.row if "_minus_" in key]
    return [name for name in dict.fromkeys(names) if not name.endswith(("_low", "_high"))]


def _task(comparison: Any, text: str) -> Any:
    """Return the run or search of `--task`, with the arm's own name."""
    from movl_monai.experiments.compare.work import RunTask

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
    names = ("bundle", "arms_file", "overlays", "dataset_dir", "output_dir", "arms", "seeds", "search")
    named = {name: getattr(options, name) for name in names}
    named |= {"train-images": options.train_images, "val-images": options.val_images, "draws": options.draws}
    pairs = [(f"--{name}", str(value)) for name, value in named.items() if value not in (None, "")]
    return [word for pair in pairs for word in pair] + list(options.overrides)


def _run_fractions(make: Any, folder: Path, text: str, command: str) -> None:
    """Run the comparison of every fraction, write its tables into its folder, and the curve over all fractions."""
    from movl_monai.experiments.compare.fraction_choice import parse_fractions
    from movl_monai.experiments.compare.fractions import run_fractions, write_fractions

    finished = run_fractions(parse_fractions(text), make, folder)
    for comparison, outcome in finished.values():
        write_tables(comparison, outcome, command=command, quiet=True)
    print(write_fractions(finished, folder, command=command))
    print(f"Curve: {folder / 'label_fractions.png'}, label_fractions.md, label_fractions.csv")


def write_tables(comparison: Any, outcome: Any, *, command: str, quiet: bool = False) -> None:
    """Compute the figures, write the three files, and print the page unless ``quiet``."""
    from movl_monai.experiments.compare.figure import draw_comparison
    from movl_monai.experiments.compare.statistics import compare_results
    from movl_monai.experiments.compare.table import comparison_csv, comparison_markdown
    from movl_monai.files import write_atomically

    references = comparison.plan.references
    figures = compare_results(outcome.results, references=references, id_domain=comparison.data.test.id_domain)
    if not figures:
        raise ConfigError("No arm has a result: every training diverged. Lower the learning rates.")
    folder = comparison.folder.path
    page = comparison_markdown(comparison, outcome, figures, command=command, picture="comparison.png")
    write_atomically(folder / "comparison.csv", comparison_csv(outcome, figures, references).encode())
    write_atomically(folder / "comparison.png", draw_comparison(figures, references=references))
    write_atomically(folder / "comparison.md", page.encode())
    if not quiet:
        print(page)
    print(f"Table: {folder / 'comparison.md'}, comparison.csv, comparison.png")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError as error:
        raise ConfigError(f"--seeds must be whole numbers separated by commas, such as 0,1,2, got '{text}'.") from error


def _command(options: argparse.Namespace) -> str:
    """Return the command with placeholders for the folders: the table may leave this machine."""
    words = ["movl-monai compare", f"--bundle {Path(options.bundle).name}", "--dataset_dir DIR --output_dir OUT"]
    if options.arms_file:
        words.append(f"--arms_file {Path(options.arms_file).name}")
    if options.overlays:
        words.append("--overlays " + ",".join(Path(name).name for name in _words(options.overlays)))
    named = {"arms": options.arms, "seeds": options.seeds, "search": options.search}
    named |= {"train-images": options.train_images, "val-images": options.val_images}
    named |= {"draws": options.draws if options.draws > 1 else None, "label-fractions": options.label_fractions}
    words += [f"--{name} {value}" for name, value in named.items() if value is not None]
    shown = [Path(word).name if Path(word).is_absolute() else word for word in options.overrides]
    return " ".join([*words, *shown])
