#!/usr/bin/env python3
"""See to it that a machine has a run's newest intact checkpoint: its own, or the one that is here.

  python scripts/push_checkpoint.py --instance 0 --run socrates-qwen-full-dataset

Called by launch_full_training.sh --resume. Exit status: 0 it has it, 2 there is none, or it did not arrive.
"""

import _bootstrap  # noqa: F401

import argparse

from socrates.errors import run_entry_point


def main() -> int:
    """Parse, push, say which it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--instance", metavar="ID", default="0", help="the instance, as in `tnr status` (0)")
    parser.add_argument("--run", metavar="NAME", required=True, help="the run's folder name in models/")
    parser.add_argument("--weights-only", action="store_true", help="one whose weights alone are whole will do")
    arguments = parser.parse_args()
    from socrates.remote.instance import Instance, check_instance_id, project_root
    from socrates.remote.push import push_newest

    instance = Instance(project_root().absolute(), check_instance_id(arguments.instance))
    done = push_newest(
        instance, arguments.run, lambda line: print(line, flush=True), weights_only=arguments.weights_only
    )
    print(f"Resume: {done}")
    return 0


if __name__ == "__main__":
    run_entry_point(main)
