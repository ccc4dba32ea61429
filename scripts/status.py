#!/usr/bin/env python3
"""How the training on a rented machine stands, on one screen.

  ./scripts/status.sh 0
  watch -n 60 ./scripts/status.sh 0

Shows phase, step, loss, speed, time left, money, GPUs, disk, checkpoints there and here, the monitor, and the log's
last lines where something is wrong. It only looks: nothing is changed, on neither side.
Exit status: 0 running well or complete, 1 not (failed, stopped, never started, not set up, no progress for 15 minutes,
or the training warns of its loss or of GPUs that idle), 2 cannot tell (for example not reachable: what is known here is
shown).
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import shutil

from socrates.errors import make_parser, run_entry_point


def main() -> int:
    """Parse, gather, print."""
    parser = make_parser(__doc__, "status.sh")
    parser.add_argument("instance", nargs="?", default="0", metavar="ID", help="as in `tnr status` (0)")
    arguments = parser.parse_args()
    from socrates.remote.instance import Instance, check_instance_id, project_root
    from socrates.remote.status import find_status, screen

    status = find_status(Instance(project_root(), check_instance_id(arguments.instance)))
    print(screen(status, min(100, shutil.get_terminal_size((100, 24)).columns)))
    return status.exit_status


if __name__ == "__main__":
    run_entry_point(main)
