"""`python -m tests.hostile`: read every hostile file and print what became of it; `--json` prints lines of JSON."""

from __future__ import annotations

import sys

from tests.hostile.run import LIMIT, PROBES, as_json, baseline, run_probes


def main(arguments: list[str]) -> int:
    """Print the table.

    Returns:
        1 if a file was neither read nor refused as it should be.
    """
    wrong = 0
    expected = {probe.name: probe.reasons for probe in PROBES}
    if "--json" not in arguments:
        before = baseline()
        print(
            f"Each file is read in a process that has {before['VmSize'] / 2**20:.0f} MiB of address space and "
            f"{before['VmRSS'] / 2**20:.0f} MiB resident before it starts (Python, torch, MONAI, codecs), and may take "
            f"{LIMIT / 2**20:.0f} MiB of address space more.\n"
        )
        print("| probe | input bytes | result | peak memory (MiB) | seconds |\n| --- | ---: | --- | ---: | ---: |")
    for outcome in run_probes():
        is_right = outcome.result in expected[outcome.name] and not outcome.executed
        wrong += not is_right
        if "--json" in arguments:
            print(as_json(outcome), flush=True)
        else:
            mark = "" if is_right else " (WRONG)"
            print(
                f"| {outcome.name} | {outcome.size} | {outcome.result}{mark} | {outcome.peak / 2**20:.0f} | "
                f"{outcome.seconds:.1f} |",
                flush=True,
            )
    if "--json" not in arguments:
        print(f"\n{len(PROBES)} probes, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
