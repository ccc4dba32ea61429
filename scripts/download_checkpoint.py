#!/usr/bin/env python3
"""Fetch one checkpoint from an instance, verified. Asks nothing; there and intact already is fine.

  ./scripts/download_checkpoint.sh 30
  ./scripts/download_checkpoint.sh --from 0:any/folder/checkpoint-30 --to here/

It goes to models/RUN/checkpoint-STEP/, which appears only when every byte is verified.
Exit status: 0 it is here, 2 cannot.
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import argparse
import os
import re
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from socrates.errors import EXIT_DONE, SocratesError, make_parser, run_entry_point

if TYPE_CHECKING:
    from socrates.remote.instance import Instance


def main() -> int:
    """Parse the arguments, find the folder, fetch it, say what came of it."""
    arguments = _arguments()
    from socrates.remote.fetch import fetch_checkpoint
    from socrates.remote.instance import Instance, check_instance_id, project_root
    from socrates.remote.monitor import Log

    root = project_root().absolute()
    if arguments.source:
        instance = Instance(root, check_instance_id(arguments.source.partition(":")[0]))
        source, target = _places(arguments.source.partition(":")[2], arguments.to)
    else:
        instance = Instance(root, check_instance_id("0" if arguments.instance is None else arguments.instance))
        os.chdir(root)
        source, target = _find(instance, arguments)
    say = Log(partial(print, flush=True)).say
    is_fetched = fetch_checkpoint(
        instance, source, target, starting=lambda: say(f"Downloading {target.name}..."), say=say, light=arguments.light
    )
    if is_fetched:
        say(f"✓ {target.name} downloaded successfully")
    else:
        print(f"✓ {target.name} is here already, intact: {target}", flush=True)
    return EXIT_DONE


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, "download_checkpoint.sh")
    parser.add_argument("step", nargs="?", type=_step, metavar="STEP", help="of checkpoint-STEP")
    parser.add_argument("--instance", metavar="ID", help="as in `tnr status` (0)")
    parser.add_argument("--run", metavar="NAME", help="where several runs have that step")
    parser.add_argument("--light", action="store_true", help="only the guide's five files and the training's record")
    parser.add_argument("--from", dest="source", metavar="ID:PATH", help="any checkpoint-N on the instance ...")
    parser.add_argument("--to", metavar="FOLDER", help="... to a folder here as `tnr scp` understands it")
    arguments = parser.parse_args()
    named = {bool(arguments.source), bool(arguments.to), arguments.step is None}
    if len(named) > 1 or (arguments.source and (arguments.instance or arguments.run)):
        parser.error("needs STEP, which --instance and --run go with, or --from and --to")
    return arguments


def _step(text: str) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,11}", text):
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}")
    return int(text)


def _find(instance: Instance, arguments: argparse.Namespace) -> tuple[str, Path]:
    """The folder on the instance that holds the step, and its place here."""
    from socrates.remote.listing import list_folders

    listing, _ = list_folders(instance)
    step = arguments.step
    found = [item for item in listing if item.step == step and arguments.run in (None, item.run)]
    where = f"instance {instance.id}"
    if not found:
        there: dict[str, list[str]] = {}
        for item in reversed(listing):
            there.setdefault(item.run, []).append(str(item.step))
        lines = [f"  {run}: {', '.join(steps)}" for run, steps in sorted(there.items())]
        raise SocratesError(
            f"{where} has no checkpoint-{step}" + (f" of {arguments.run}" if arguments.run else "")
            + ("; there are:\n" + "\n".join(lines) if lines else ", and no other one")
        )  # fmt: skip
    if len(found) > 1:
        option = f" --instance {instance.id}" if instance.id != "0" else ""
        commands = [f"  ./scripts/download_checkpoint.sh {step}{option} --run {item.run}" for item in found]
        raise SocratesError(f"{len(found)} runs on {where} have a checkpoint-{step}; choose:\n" + "\n".join(commands))
    return found[0].folder, found[0].place(Path("models"))


def _places(path: str, to: str) -> tuple[str, Path]:
    """The folder on the instance and its place here, by the rules of `tnr scp`.

    An existing folder, or one with a slash at its end, takes the checkpoint into it; but `checkpoint-N` itself, there
    already, is the checkpoint's place, not its parent: the same command twice means the same place.
    """
    from socrates.checkpoint import checkpoint_step

    source = path.removeprefix("~/").rstrip("/")
    name = PurePosixPath(source).name
    if checkpoint_step(name) is None or source.startswith("~"):
        raise SocratesError(f"--from {path}: must name a folder checkpoint-N; ~/ stands for the home folder there")
    target = Path(to)
    if target.name != name and (to.endswith("/") or target.is_dir()):
        if checkpoint_step(target) is not None:
            raise SocratesError(f"--to {to}: is another checkpoint's folder, not {name}'s")
        target = target / name
    if target.name != name:
        raise SocratesError(f"--to {to}: must be a folder that takes {name}, or be named {name}")
    return source, target


if __name__ == "__main__":
    run_entry_point(main)
