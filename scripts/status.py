#!/usr/bin/env python3
"""How the training on a rented machine stands, on one screen.

  ./scripts/status.sh 0 --watch 60

Shows phase, step, loss, speed, time left, money, GPUs, disk, checkpoints there and here, the monitor, and the log's
last lines where something is wrong. It only looks: nothing is changed, on neither side.
Exit status: 0 running well or complete, 1 not (failed, stopped, never started, not set up, no progress for 15 minutes,
or the training warns of its loss or of GPUs that idle), 2 cannot tell (for example not reachable: what is known here is
shown), 130 --watch was ended.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import json
import re
import sys
import time

from socrates.errors import make_parser, run_entry_point


def main() -> int:
    """Parse, gather, print; with --watch again and again, cleared on a terminal only."""
    parser = make_parser(__doc__, "status.sh")
    parser.add_argument("instance", nargs="?", metavar="ID", help="as in `tnr status` (0)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same facts as JSON")
    form.add_argument("--watch", nargs="?", const="60", metavar="SECONDS", help="again and again (60) until Ctrl+C")
    arguments = parser.parse_args()
    if arguments.watch and not arguments.watch.isdigit() and arguments.instance is None:  # --watch ID
        arguments.instance, arguments.watch = arguments.watch, "60"
    if arguments.watch is not None and not re.fullmatch("[1-9][0-9]{0,4}", arguments.watch):
        parser.error(f"--watch needs 1 to 99999 seconds, not {arguments.watch} (an instance stands before --watch)")
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    from socrates.remote.instance import Instance, check_instance_id, project_root
    from socrates.remote.status import as_json, find_status, print_status

    instance = Instance(project_root(), check_instance_id("0" if arguments.instance is None else arguments.instance))
    while True:
        status = find_status(instance)
        if arguments.json:
            print(json.dumps(as_json(status), indent=2, ensure_ascii=False, allow_nan=False))
        else:
            print_status(status, watch=arguments.watch is not None)
        if arguments.watch is None:
            return status.exit_status
        time.sleep(int(arguments.watch))


if __name__ == "__main__":
    run_entry_point(main)
