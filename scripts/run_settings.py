#!/usr/bin/env python3
"""Check a run config and its DeepSpeed config; print run name and model, a line each, for the launcher.

  python scripts/run_settings.py --config config_full_dataset.json --deepspeed deepspeed_config.json

Exit status: 0 printed, 2 the config does not load.
"""

import _bootstrap  # noqa: F401

import argparse
from pathlib import Path

from socrates.errors import SocratesError, run_entry_point


def main() -> int:
    """Parse, check, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", metavar="FILE", required=True, help="run config")
    parser.add_argument("--deepspeed", metavar="FILE", required=True, help="DeepSpeed config")
    arguments = parser.parse_args()
    from socrates.config import load_config, load_deepspeed
    from socrates.remote.listing import is_run_name

    config = load_config(arguments.config)
    load_deepspeed(arguments.deepspeed, config)
    output = Path(config.output_dir)
    if output.parent != Path("models") or not is_run_name(output.name):
        raise SocratesError(
            f'{arguments.config}: "output_dir" is {config.output_dir!r}: must be models/NAME, where the monitor looks; '
            "NAME of letters, digits, dots, - and _"
        )
    print(output.name, config.model_name, sep="\n")
    return 0


if __name__ == "__main__":
    run_entry_point(main)
