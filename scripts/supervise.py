#!/usr/bin/env python3
r"""Run a training in the background of this machine, watched over: started again when it has crashed.

To be called in the project's folder on the training machine.

  python scripts/supervise.py start --config config_full_dataset.json \
      --deepspeed deepspeed_config.json --log training.log
  python scripts/supervise.py state
  python scripts/supervise.py stop [--now]

It goes on from the newest complete checkpoint, and when the connection ends. A crashed training is started again, at
most three times, and only if it got further than before. A file machine.env (lines KEY=VALUE) is added to its
environment.
stop lets the step end and saves a checkpoint first; with --now, or at Ctrl+C, it does not wait for that.
Exit status of start: 0 it runs or is complete, 1 it died or stopped, 2 not started; of state: 0 running or complete,
1 failed or stopped, 2 never started; of stop: 0 stopped, 1 nothing was running, 2 cannot.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import argparse
import os
import sys
from typing import TYPE_CHECKING

from socrates.errors import SocratesError, make_parser, run_entry_point

if TYPE_CHECKING:
    from socrates.machine.supervisor import TrainingJob


def main() -> int | None:
    """Parse the arguments and do one of the four."""
    arguments = parse_arguments()
    sys.stdout.reconfigure(line_buffering=True)  # also into a pipe, as over ssh
    return {"start": start, "run": run, "stop": stop, "state": state}[arguments.action](arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for action, does in (("start", "start a training"), ("run", "what start runs in the background")):
        parsed = actions.add_parser(action, help=does, allow_abbrev=False)
        parsed.add_argument("--config", required=True, metavar="FILE", help="the run config (JSON)")
        parsed.add_argument("--deepspeed", required=True, metavar="FILE", help="the DeepSpeed config (JSON)")
        parsed.add_argument("--log", required=True, metavar="FILE", help="where all output goes; added to, never cut")
        weights_only = "go on from a checkpoint of which the weights alone are whole"
        parsed.add_argument("--resume-weights-only", action="store_true", help=weights_only)
        parsed.add_argument("--watch", type=float, default=60, metavar="SECONDS", help="how long to watch it (60)")
        parsed.add_argument("--token-on-stdin", action="store_true", help="HF_TOKEN is standard input's first line")
    stop = actions.add_parser("stop", help="end the training after a checkpoint, and wait", allow_abbrev=False)
    stop.add_argument("--now", action="store_true", help="do not wait for a step and its checkpoint")
    actions.add_parser("state", help="what runs, since when, and how it ended", allow_abbrev=False)
    arguments = parser.parse_args()
    if arguments.action == "start" and not 0 <= arguments.watch <= 86400:
        parser.error("--watch wants seconds, 0 to 86400")
    return arguments


def start(arguments: argparse.Namespace) -> int:
    """Start a training in the background and watch its first steps."""
    from socrates.machine import background
    from socrates.machine.run_state import read_machine_env

    os.environ.update(read_machine_env())
    os.environ.pop("TNR_API_TOKEN", None)  # a training has no use for it
    if arguments.token_on_stdin:
        os.environ.update(read_token())
    command = [sys.executable, __file__, "run", *sys.argv[2:]]
    return background.start(make_job(arguments), command, arguments.watch)


def run(arguments: argparse.Namespace) -> None:
    """Supervise a training, in this process."""
    from socrates.machine.supervisor import Supervisor

    Supervisor(make_job(arguments)).run()


def make_job(arguments: argparse.Namespace) -> TrainingJob:
    """What is to be run, checked."""
    from socrates.machine.supervisor import make_training_job

    return make_training_job(arguments.config, arguments.deepspeed, arguments.log, arguments.resume_weights_only)


def stop(arguments: argparse.Namespace) -> int:
    """End the training, after a checkpoint unless it is to be at once."""
    from socrates.machine import background

    return background.stop(arguments.now)


def state(arguments: argparse.Namespace) -> int:
    """Say what is true now."""
    from socrates.machine.run_state import find_run_state, run_state_text

    run_state = find_run_state()
    print(run_state_text(run_state))
    return run_state.exit_status


def read_token() -> dict[str, str]:
    """HF_TOKEN from the first line of standard input; an empty line is no token. The token is never printed."""
    if sys.stdin.isatty():
        raise SocratesError("--token-on-stdin: standard input is a terminal, where the token would be seen")
    token = sys.stdin.readline().strip()
    if not token:
        print("No HF_TOKEN on standard input: going on without", file=sys.stderr)
        return {}
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SocratesError("--token-on-stdin: the first line of standard input is no token")
    return {"HF_TOKEN": token}


if __name__ == "__main__":
    run_entry_point(main)
