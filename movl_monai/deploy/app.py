"""Base of the applications of all bundles: paths, quiet logs, errors as one paragraph."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai import heap
from movl_monai.deploy.prediction import Outcome, clean_errors, outcome_of
from movl_monai.deploy.sdk import Application
from movl_monai.errors import ConfigError, user_error
from movl_monai.files import clear_leftovers, started_at, write_atomically
from movl_monai.predict.outputs import output_folders

__all__ = ["DeployApplication", "Paths", "main"]

_EXIT_USER_ERROR = 2


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Paths of an application.

    Args:
        input: folder of the DICOM files.
        output: folder of the results.
        model: exported file, or the folder with it.
    """

    input: Path
    output: Path
    model: Path


class DeployApplication(Application):
    """Application of the SDK that logs nothing about patients and counts all failures.

    Attributes:
        outcome: files and outputs that the operators of :mod:`movl_monai.deploy` left out, for :func:`main`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outcome = Outcome()
        self._started: Path | None = None

    def paths(self) -> Paths:
        """Return the paths of the command line (``-i``, ``-o``, ``-m``), or else of the SDK's environment variables.

        Raises:
            ConfigError: if the output folder is the input folder or lies inside it.
        """
        # below WARN the SDK logs its arguments and the contents of headers
        context = Application.init_app_context([*self.argv, "--log-level", "WARN"])
        _quiet_logs()
        paths = Paths(input=Path(context.input_path), output=Path(context.output_path), model=Path(context.model_path))
        if paths.output.resolve().is_relative_to(paths.input.resolve()):
            raise ConfigError("The output folder (-o) lies inside of the input (-i); choose another.")
        with clean_errors("make the output folder"):
            paths.output.mkdir(parents=True, exist_ok=True)
            self._begin(paths.output)
        return paths

    def run(self) -> None:
        """Run, and remove the record for resuming at the end."""
        super().run()
        if self._started is not None:
            self._started.unlink(missing_ok=True)

    def _begin(self, folder: Path) -> None:
        """Clear the remains of an interrupted run, and reuse its time stamp so that the outputs are the same."""
        clear_leftovers(folder, output_folders())
        self._started = folder / "local" / "started"
        given = self._started.read_bytes() if self._started.is_file() else b""
        self.outcome.started = int(given) if given.isdigit() else started_at()
        write_atomically(self._started, str(self.outcome.started).encode())


def main(application: type[Any], arguments: Sequence[str] | None = None) -> int:
    """Run an application.

    Args:
        application: class of the application.
        arguments: arguments without the program's name; None takes ``sys.argv``.

    Returns:
        0 on success; 4 if something could not be predicted or written and the rest is done, with a paragraph that
        counts it; 2 for an error that a user can act on, which is printed as one paragraph.
    """
    heap.keep_free_memory()
    # Holoscan would print each error with its traceback, and log paths
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")
    try:
        running = application([sys.executable, sys.argv[0], *(sys.argv[1:] if arguments is None else arguments)])
        running.run()
    except Exception as error:
        known = user_error(error)
        if known is None:
            raise
        _say(application, str(known))
        return _EXIT_USER_ERROR
    outcome = outcome_of(running)
    if outcome.text:
        _say(application, outcome.text)
    return outcome.exit_code


def _say(application: type[Any], text: str) -> None:
    text = textwrap.fill(f"{application.__name__}: {text}", width=110, break_long_words=False, break_on_hyphens=False)
    print(text, file=sys.stderr)


def _quiet_logs() -> None:
    """Drop all log records of the SDK (paths, UIDs, series descriptions), and show ours from INFO upwards."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(one, _NotOfSdk) for one in handler.filters):
            handler.addFilter(_NotOfSdk())
    logging.getLogger("movl_monai").setLevel(logging.INFO)


class _NotOfSdk(logging.Filter):
    """Drop log records from files of the SDK."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is kept."""
        return "/monai/deploy/" not in record.pathname.replace("\\", "/")
