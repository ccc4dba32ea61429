#!/usr/bin/env python3
"""How the training on an instance stands, on one screen: scripts/status.sh's part that computes.

  python scripts/status.py --instance 0
  python scripts/status.py --instance 0 --watch 60

Exit status: 0 running well or complete, 1 it is not, 2 cannot tell, 130 ended with q or Ctrl+C.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import argparse
import json
import shutil
import sys
import time
from typing import TYPE_CHECKING

from socrates.errors import EXIT_INTERRUPTED, run_entry_point

if TYPE_CHECKING:
    from socrates.remote.status.summary import Status


def main() -> int:
    """Parse, gather, print; with --watch again and again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--instance", required=True, metavar="ID", help="as in `tnr status`")
    parser.add_argument("--json", action="store_true", help="the same facts as JSON")
    parser.add_argument("--watch", type=int, metavar="SECONDS", help="again after this time, until q or Ctrl+C")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    if arguments.watch is not None:
        return watch(arguments.instance, arguments.watch)
    status = look(arguments.instance)
    if arguments.json:
        from socrates.remote.status.screen import as_json

        print(json.dumps(as_json(status), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(screen(status))
    return status.exit_status


def look(name: str) -> Status:
    """The status of an instance now; SocratesError where it does not exist."""
    from socrates.remote.instance import Instance, check_instance_id, project_root
    from socrates.remote.local import find_local_state
    from socrates.remote.status.summary import make_status, request_report

    instance = Instance(project_root(), check_instance_id(name))
    facts, problem = request_report(instance)
    return make_status(facts, find_local_state(instance.root, instance.id), time.time(), problem)


def screen(status: Status, height: int = 24) -> str:
    """The screen, as wide as the terminal, at most 100 columns."""
    from socrates.remote.status.screen import WIDTH, status_screen

    columns = shutil.get_terminal_size((WIDTH, height)).columns if sys.stdout.isatty() else WIDTH
    return status_screen(status, max(40, min(WIDTH, columns)), height)


def watch(name: str, seconds: int) -> int:
    """Show the screen again and again; cleared on a terminal only."""
    from socrates.remote.status.screen import single_keys

    with single_keys() as pressed_q:
        while True:
            text = screen(look(name), height=22)  # with our own line, on a terminal of 24
            if sys.stdout.isatty():
                text = f"\x1b[H\x1b[2J{text}\n(again every {seconds} s; q ends)"
            print(text, flush=True)
            if pressed_q(seconds):
                return EXIT_INTERRUPTED
            if not sys.stdout.isatty():
                print()


if __name__ == "__main__":
    run_entry_point(main)
