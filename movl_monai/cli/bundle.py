"""`movl-monai bundle`: list the bundles that come with the package, or copy one for editing."""

from __future__ import annotations

import argparse
import json
import textwrap

from movl_monai.bundles import copy_bundle, installed_bundles

__all__ = ["run_copy", "run_list"]


def run_list(options: argparse.Namespace) -> int:
    """Print the bundles with version, description and folder."""
    bundles = installed_bundles()
    if options.json:
        facts = [{**vars(bundle), "folder": str(bundle.folder)} for bundle in bundles]
        print(json.dumps(facts, indent=2))
        return 0
    for bundle in bundles:
        print(f"{bundle.name} {bundle.version}  {bundle.folder}")
        print(textwrap.fill(bundle.description, width=100, initial_indent="    ", subsequent_indent="    "))
    return 0


def run_copy(options: argparse.Namespace) -> int:
    """Copy a bundle and print its new folder."""
    print(copy_bundle(options.name, options.folder))
    return 0
