"""Pushing a checkpoint back to a machine: how a run goes on after its machine is gone.

Covers: only what verifies here is sent, and it gets its name there once it verifies there. Does not cover: the data
and the code (run_remote_setup.sh).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

from socrates.checkpoint import (
    checkpoint_step,
    is_run_name,
    newest_complete,
    read_manifest,
    why_not_from_weights,
    why_not_resumable,
)
from socrates.errors import SocratesError
from socrates.remote.instance import REMOTE_ROOT, Instance, check_instance_id, project_root
from socrates.remote.listing import list_folders

_NOT_RESUMABLE = 3  # neither Python's nor a shell's own status for an error
_VERIFY = (  # a sign of life with each file that it opens
    "import sys; sys.addaudithook(lambda event, _: event == 'open' and sys.stderr.write('\\n')); "
    "from socrates.checkpoint import why_not_from_weights, why_not_resumable; "
    f"sys.exit({_NOT_RESUMABLE} if {{check}}(sys.argv[1]) else 0)"
)


def push_newest(
    instance: Instance, run: str, say: Callable[[str], None] = lambda line: None, *, weights_only: bool = False
) -> str:
    """See to it that a machine has a run's newest checkpoint that a training can go on from.

    Args:
        instance: with code and environment in place.
        run: the run's folder name in models/.
        say: called before something that takes long.
        weights_only: a checkpoint will do of which the weights alone are complete, a light download for one.

    Returns:
        What was done, as a line for people.

    Raises:
        SocratesError: there is no such checkpoint on either side, or it did not arrive intact.
        Unreachable: the connection was lost; the same call goes on.
    """
    if not is_run_name(run):
        raise SocratesError(f"{run!r} cannot be the name of a run: a folder in models/, without its path")
    local, passed_over = newest_complete(instance.root / "models" / run, weights_only=weights_only)
    local_step = (checkpoint_step(local) or 0) if local else -1
    local_is_whole = local is not None and why_not_resumable(local) is None
    for there in list_folders(instance)[0]:
        if there.run != run or not there.is_complete or there.step < local_step:
            continue
        enough = weights_only and not (there.step == local_step and local_is_whole)  # then the whole one is sent
        if _is_resumable_there(instance, f"models/{run}/{there.name}", weights_only=enough):
            return f"goes on from {there.name}, which is on the machine"
    if local is None:
        weights = next((path.name for path in passed_over if why_not_from_weights(path) is None), None)
        or_weights = f", or go on from the weights of {weights}, which is here, with --resume-weights-only"
        raise SocratesError(
            f"nothing to resume from: no intact checkpoint of {run} on instance {instance.id}, and none in "
            f"models/{run} here; start without --resume{or_weights if weights else ''}"
        )
    size = sum(size for size, _ in read_manifest(local).files.values())
    say(f"Sending {local.name} ({size / 10**6:.1f} MB)...")
    _push(instance, run, local, weights_only=not local_is_whole)
    return f"goes on from {local.name}, sent from here"


def _push(instance: Instance, run: str, folder: Path, *, weights_only: bool) -> None:
    place = f"cd ~/{REMOTE_ROOT}/models/{shlex.quote(run)} && name={folder.name} && "
    incoming = f"models/{run}/.incoming/{folder.name}"
    instance.copy([f"{folder}/"], f"{instance.id}:{REMOTE_ROOT}/{incoming}/")
    if not _is_resumable_there(instance, incoming, weights_only=weights_only):
        # Of the right sizes and times, perhaps: sent over it, the same files would be taken for there already.
        instance.run(f'{place} rm -rf ".incoming/$name"')
        raise SocratesError(f"{folder}: did not arrive intact on instance {instance.id}; run the same command again")
    # A damaged folder of that name is moved away, not deleted.
    instance.run(
        f"{place}"
        'if [[ -e $name ]]; then mkdir -p set-aside && mv -T "$name" "set-aside/$name-$(date +%Y%m%dT%H%M%S)"; fi && '
        'mv -T ".incoming/$name" "$name"'
    )


def _is_resumable_there(instance: Instance, folder: str, *, weights_only: bool) -> bool:
    verify = _VERIFY.format(check="why_not_from_weights" if weights_only else "why_not_resumable")
    command = f"cd ~/{REMOTE_ROOT} && venv/bin/python -c {shlex.quote(verify)} {shlex.quote(folder)}"
    return instance.run(command, accept=(0, _NOT_RESUMABLE)).returncode == 0


def main(instance: str, run: str, weights_only: str = "") -> None:
    """Push, and say what was done; weights_only: any text for yes."""
    machine = Instance(project_root().absolute(), check_instance_id(instance))
    print(f"Resume: {push_newest(machine, run, partial(print, flush=True), weights_only=bool(weights_only))}")
