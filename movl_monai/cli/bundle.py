"""`movl-monai bundle`: list the bundles that come with the package, or copy one for editing."""

from __future__ import annotations

import argparse
import textwrap

from movl_monai.bundles import copy_bundle, installed_bundles
from movl_monai.cli.output import show

__all__ = ["run_copy", "run_list"]


def run_list(options: argparse.Namespace) -> int:
    """Print the bundles with version, description and folder."""
    bundles = installed_bundles()
    lines = []
    for bundle in bundles:
        lines.append(f"{bundle.name} {bundle.version}  {bundle.folder}")
        lines += textwrap.wrap(bundle.description, width=100, initial_indent="    ", subsequent_indent="    ")
    show(options, "\n".join(lines), [vars(bundle) for bundle in bundles])
    return 0


def run_copy(options: argparse.Namespace) -> int:
    """Copy a bundle and print its new folder."""
    folder = copy_bundle(options.name, options.folder)
    show(options, str(folder), {"folder": folder})
    return 0
