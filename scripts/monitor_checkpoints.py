#!/usr/bin/env python3
"""Fetch every checkpoint of an instance as it is saved, verified, until you stop it.

  ./scripts/monitor_checkpoints.sh 0 300

Checkpoints go to models/RUN/checkpoint-N/, which appears only when every byte is verified; logs to models/logs/.
Lost connections, a full disk and its own end are no harm: run it again, and it goes on where it stopped.
Exit status: 0 done (nothing is missing), 1 something could not be fetched (is missing), 2 cannot,
130 stopped with Ctrl+C, 143 stopped by a signal.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import argparse
import os
import signal
from pathlib import Path

from socrates.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NO, SocratesError, make_parser, run_entry_point


class Stopped(BaseException):
    """A signal asks us to end; not an Exception: nothing in the watch may take it for a problem."""


def main() -> int:
    """Parse the arguments, then watch, or tell what is missing."""
    arguments = _arguments()
    from socrates.checkpoint import is_run_name
    from socrates.files import take_lock
    from socrates.remote.fetch import missing_checkpoints
    from socrates.remote.instance import Instance, check_instance_id, project_root
    from socrates.remote.local import RECORDS, local_errors
    from socrates.remote.monitor import Log, Monitor

    root = project_root().absolute()
    instance = Instance(root, check_instance_id(arguments.instance))
    if arguments.run is not None and not is_run_name(arguments.run):
        raise SocratesError(f"{arguments.run!r} cannot be the name of a run: a folder in models/, without its path")
    os.chdir(root)
    models = Path("models")
    if arguments.missing:
        lines = missing_checkpoints(instance, models)
        print(*lines, sep="\n", end="\n" if lines else "")
        return EXIT_NO if lines else EXIT_DONE

    wanted = {name: getattr(arguments, name) for name in ("once", "until_complete", "run", "light")}
    monitor = Monitor(instance, models, Log(_write), interval=arguments.seconds, **wanted)
    lock = models / RECORDS / f"instance-{instance.id}.lock"
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays in force
            signal.signal(number, _stop)
    try:
        with local_errors(lock):
            held = take_lock(lock, f"a monitor of instance {instance.id} runs already")
        with held:
            _print_header(arguments)
            return monitor.watch()
    except (KeyboardInterrupt, Stopped) as stop:
        count = len(monitor.here)  # none: perhaps it has not got to look at what is here
        verified = f": {count} checkpoint{'s' if count != 1 else ''} here, all verified" if count else ""
        _write(f"\nMonitor stopped{verified}. Run it again to go on.")
        return EXIT_INTERRUPTED if isinstance(stop, KeyboardInterrupt) else 128 + stop.args[0]


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, "monitor_checkpoints.sh")
    parser.add_argument("instance", nargs="?", default="0", metavar="ID", help="instance, as in `tnr status` (0)")
    parser.add_argument("seconds", nargs="?", default=300, type=_seconds, metavar="SECONDS", help="between looks (300)")
    parser.add_argument("--run", metavar="NAME", help="this run only (all runs on the instance)")
    parser.add_argument(
        "--light", action="store_true", help="the guide's five files and the training's record; resuming needs more"
    )
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--once", action="store_true", help="fetch what is there now, then end")
    ends.add_argument("--until-complete", action="store_true", help="end when every run's last checkpoint is here")
    ends.add_argument("--missing", action="store_true", help="fetch no checkpoint; a line for each not here yet")
    return parser.parse_intermixed_args()


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:6]) <= 86_400 or len(text) > 6:
        raise argparse.ArgumentTypeError(f"{text!r}: between 1 and 86400 seconds")
    return int(text)


def _print_header(arguments: argparse.Namespace) -> None:
    bar = "=" * 32
    _write(f"{bar}\nCheckpoint Monitor\n{bar}")
    _write(f"Instance ID: {arguments.instance}\nCheck interval: {arguments.seconds}s")
    _write(f"Checkpoints go to: models/{arguments.run or 'RUN'}/checkpoint-N/")
    if not arguments.once:
        _write("Stop with Ctrl+C; run it again to go on")


def _write(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # else the log's disk is full: the watch goes on


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


if __name__ == "__main__":
    run_entry_point(main)
