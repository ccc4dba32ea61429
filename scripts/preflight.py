#!/usr/bin/env python3
"""Can this machine carry a run? One line for each thing that would stop it, with the remedy.

  python scripts/preflight.py [--config config_full_dataset.json --deepspeed deepspeed_config.json]

Run it on the training machine, in the project's folder; without --config it looks at the machine alone. It looks at
Python, packages, GPUs, driver, bf16, the model and HF_TOKEN (one request to the hub at most), data and disk,
predicts memory and cost, and reads no data file twice (but train.jsonl where rows_per_cell is set).
Exit status: 0 nothing stands in the way, 1 something does, 2 cannot tell (a config or DeepSpeed file that is wrong).
"""

import _bootstrap  # noqa: F401

import os
from pathlib import Path

from socrates.errors import make_parser, run_entry_point


def main() -> int:
    """Parse, check, print."""
    parser = make_parser(__doc__)
    parser.add_argument("--config", metavar="FILE", help="run config")
    parser.add_argument("--deepspeed", metavar="FILE", help="DeepSpeed config, checked against the run config")
    arguments = parser.parse_args()
    from socrates.machine.preflight.checks import REQUIREMENTS, check_software, failed, report_text

    software = check_software(Path(__file__).resolve().parent.parent / REQUIREMENTS)
    if failed(software):  # the rest needs it
        print(report_text(software))
        return 1
    from socrates.machine.run_state import read_machine_env

    os.environ.update(read_machine_env())  # as the training will have it; the hub's library reads it once
    from socrates.config import load_training
    from socrates.machine.preflight.preflight import run_checks

    config, deepspeed = load_training(arguments.config, arguments.deepspeed) if arguments.config else (None, None)
    checks = [*software, *run_checks(config, deepspeed)]
    print(report_text(checks))
    return 1 if failed(checks) else 0


if __name__ == "__main__":
    run_entry_point(main)
