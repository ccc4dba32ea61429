#!/usr/bin/env python3
"""What preflight says of broken set-ups: a table of each, the line that tells it, and the remedy.

  python benchmarks/show_preflight.py [--output benchmarks/results/preflight_failures.md]

The machines are made up (tests/made_machine.py): the script and the checks are the real ones. The same set-ups are
tested by tests/machine/test_preflight_failures.py.
Exit status: 0 each was caught, 1 one was not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from socrates.errors import SocratesError, run_entry_point  # noqa: E402
from socrates.files import atomic_write  # noqa: E402


def main() -> int:
    """Parse, break each machine, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the table there (else it is printed)")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"  # for what this process does itself
    from broken_setups import BROKEN

    rows, missed = [], 0
    for broken in BROKEN:
        check = run_broken(broken)
        missed += check is None
        found = check or {"outcome": "not caught", "text": "", "remedy": ""}
        cells = (broken.name, found["outcome"], f"{broken.check}: {found['text']}", found["remedy"])
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    table = "\n".join(
        [
            "# What preflight says of broken set-ups",
            "",
            "Made by `benchmarks/show_preflight.py`. The machines are made up: what nvidia-smi prints, the free disk,",
            "the version of Python and the hub (on loopback); of the data set 40 rows, and metadata of 2,400,000.",
            "The script and the checks are the real ones. No GPU was used: memory and time are predictions.",
            "Run: the guide's config_full_dataset.json and deepspeed_config.json, but for what is broken.",
            "",
            "| set-up | outcome | line | what to do |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
    if arguments.output:
        with atomic_write(arguments.output) as file:
            file.write(table)
    else:
        print(table)
    print(f"{len(BROKEN) - missed} of {len(BROKEN)} broken set-ups caught", file=sys.stderr)
    return 1 if missed else 0


def run_broken(broken: object) -> dict[str, str] | None:
    """The line that tells what is broken; None where none does."""
    from made_machine import Hub, MadeMachine

    hub = Hub()
    try:
        with tempfile.TemporaryDirectory() as folder:
            machine = MadeMachine(Path(folder), hub)
            broken.broken_by(machine)
            done = machine.preflight("--json")
    finally:
        hub.shutdown()
        hub.server_close()
    try:
        checks = json.loads(done.stdout)
    except ValueError as error:
        raise SocratesError(f"{broken.name}: preflight printed no JSON: {done.stderr}") from error
    for check in checks:
        if check["name"] == broken.check and check["outcome"] == broken.outcome and broken.text in check["text"]:
            return check
    return None


if __name__ == "__main__":
    run_entry_point(main)
