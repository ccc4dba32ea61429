#!/usr/bin/env python3
"""How the training on a rented machine stands, on one screen.

  ./scripts/status.sh 0 --watch 60

Shows phase, step, loss, speed, time left, money, GPUs, disk, checkpoints there and here, the monitor, and the log's
last lines where something is wrong. It only looks: nothing is changed, on neither side.
Exit status: 0 running well or complete, 1 not (failed, stopped, never started, no progress for 15 minutes, or the
training warns of its loss or of GPUs that idle), 2 cannot tell (for example not reachable: what is known here is
shown), 130 --watch was ended.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import json
import re
import shutil
import sys
import time
from typing import TYPE_CHECKING

from socrates.errors import EXIT_INTERRUPTED, make_parser, run_entry_point

if TYPE_CHECKING:
    from socrates.remote.status.summary import Status


def main() -> int:
    """Parse, gather, print; with --watch again and again."""
    parser = make_parser(__doc__, "status.sh")
    parser.add_argument("instance", nargs="?", metavar="ID", help="as in `tnr status` (0)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same facts as JSON")
    form.add_argument(
        "--watch", nargs="?", const="60", metavar="SECONDS", help="again and again (60) until q or Ctrl+C"
    )
    arguments = parser.parse_args()
    if arguments.watch and not arguments.watch.isdigit() and arguments.instance is None:  # --watch ID
        arguments.instance, arguments.watch = arguments.watch, "60"
    if arguments.watch is not None and not re.fullmatch("[1-9][0-9]{0,4}", arguments.watch):
        parser.error(f"--watch needs 1 to 99999 seconds, not {arguments.watch} (an instance stands before --watch)")
    instance = "0" if arguments.instance is None else arguments.instance
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    if arguments.watch is not None:
        return watch(instance, int(arguments.watch))
    status = look(instance)
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
    report, problem = request_report(instance)
    return make_status(report, find_local_state(instance.root, instance.id), time.time(), problem)


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
