"""Checks a run's two configs before it is launched; prints its name and its model, a line each."""

import sys

sys.path[0] += "/.."
import _bootstrap

from pathlib import Path


def main(config_name: str, deepspeed_name: str) -> None:
    """Refuse what would fail there, and an output folder that the monitor does not look into."""
    from socrates.config import load_config, load_deepspeed
    from socrates.remote.listing import is_run_name

    config = load_config(config_name)
    load_deepspeed(deepspeed_name, config)
    output = Path(config.output_dir)
    if output.parent != Path("models") or not is_run_name(output.name):
        raise _bootstrap.SocratesError(
            f'{config_name}: "output_dir" is {config.output_dir!r}: must be models/NAME, where the monitor looks; '
            "NAME of letters, digits, dots, - and _"
        )
    print(output.name, config.model_name, sep="\n")


if __name__ == "__main__":
    _bootstrap.run_entry_point(lambda: main(*sys.argv[1:]))
