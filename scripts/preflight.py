#!/usr/bin/env python3
"""Can this machine carry a run? One line for each thing that would stop it, with the remedy.

  python scripts/preflight.py [--config config_full_dataset.json --deepspeed deepspeed_config.json] [--json]

Run it on the training machine, in the project's folder; without --config it looks at the machine alone.
Exit status: 0 nothing stands in the way, 1 something does, 2 cannot tell (a config that does not load).
"""

import _bootstrap  # noqa: F401

import argparse
import os
from dataclasses import replace
from pathlib import Path

from socrates.errors import run_entry_point


def main() -> int:
    """Parse, check, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", metavar="FILE", help="run config")
    parser.add_argument("--deepspeed", metavar="FILE", help="DeepSpeed config, checked against the run config")
    parser.add_argument(
        "--hostfile", metavar="FILE", help="machines of the run, this one first: GPUs for its own slots"
    )
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    arguments = parser.parse_args()
    from socrates.config import load_config, load_deepspeed
    from socrates.machine.hosts import read_hostfile
    from socrates.machine.machine_env import MACHINE_ENV, read_machine_env
    from socrates.machine.preflight import failed, find_gpus, fitting_configs, render, run_checks, to_json

    os.environ.update(read_machine_env(MACHINE_ENV))  # as the training will have it
    config = load_config(arguments.config) if arguments.config else None
    if config and arguments.deepspeed:
        load_deepspeed(arguments.deepspeed, config)
    if config and arguments.hostfile:
        slots = read_hostfile(arguments.hostfile, config)[0].slots
        config = replace(config, training=replace(config.training, num_processes=slots))
    root = Path.cwd()
    checks = run_checks(root, config)
    if arguments.json:
        print(to_json(checks))
    else:
        print(render(checks))
        if config is None and (names := fitting_configs(root, len(find_gpus()))):
            print(f"  enough GPUs for: {', '.join(names)}")
    return 1 if failed(checks) else 0


if __name__ == "__main__":
    run_entry_point(main)
