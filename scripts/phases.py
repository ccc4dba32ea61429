#!/usr/bin/env python3
"""What is on record of phases 1 and 2.

  python scripts/phases.py

Exit status: 0 both passed, 1 one of them did not or is not on record.
"""

import _bootstrap  # noqa: F401

import argparse
from pathlib import Path

from socrates.errors import run_entry_point


def main() -> int:
    """Print a line for each phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.parse_args()
    from socrates.phases import phase_records

    records = phase_records(Path())
    for record in records:
        print(f"{record.name}: {record.text}")
    return 0 if all(record.passed for record in records) else 1


if __name__ == "__main__":
    run_entry_point(main)
