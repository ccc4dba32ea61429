#!/usr/bin/env python3
"""Fill a rehearsal folder: sample answers (or links to real ones), a tiny base model, configs.

  python scripts/make_rehearsal.py [--data DIR] FOLDER
  python scripts/make_rehearsal.py --is-complete FOLDER/models/RUN/checkpoint-N

Called by scripts/rehearse.sh. Exit status: 0 done (or complete), 1 not complete, 2 cannot.
"""

import _bootstrap  # noqa: F401

import argparse
from pathlib import Path

from socrates.errors import run_entry_point


def main() -> int:
    """Parse, make, print a line for each thing made or reused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the rehearsal's folder")
    parser.add_argument("--data", metavar="DIR", type=Path, help="folder with train.jsonl and val.jsonl")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of everything made (0)")
    parser.add_argument("--is-complete", action="store_true", help="only say whether FOLDER is a complete checkpoint")
    arguments = parser.parse_args()
    if arguments.is_complete:
        from socrates.checkpoint import find_damage

        return 0 if find_damage(arguments.folder) is None else 1
    from socrates.rehearsal.rehearsal import write_rehearsal_files

    for line in write_rehearsal_files(arguments.folder, arguments.data, arguments.seed):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
