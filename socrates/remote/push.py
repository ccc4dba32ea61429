"""A checkpoint from here back to a machine: how a run goes on after its machine is gone.

Covers: only what verifies here is sent, and it gets its name there once it verifies there. Does not cover: the data
and the code (run_remote_setup.sh).
"""

from __future__ import annotations

import shlex
from pathlib import Path

from socrates.checkpoints import checkpoint_step, newest_complete
from socrates.errors import SocratesError
from socrates.remote.instance import REMOTE_ROOT, Instance
from socrates.remote.mirror import list_remote


def push_newest(instance: Instance, run: str) -> str:
    """See to it that a machine has a run's newest intact checkpoint.

    Args:
        instance: with code and environment in place.
        run: the run's folder name in models/.

    Returns:
        What was done, as a line for people.

    Raises:
        SocratesError: there is no intact checkpoint on either side, or it did not arrive intact.
        Unreachable: the connection was lost; the same call goes on.
    """
    local, _ = newest_complete(instance.root / "models" / run)
    local_step = (checkpoint_step(local) or 0) if local else -1
    for step in sorted((s for s, c in list_remote(instance).get(run, {}).items() if c.manifest_sha256), reverse=True):
        if step < local_step:
            break
        if _is_intact_there(instance, f"models/{run}/checkpoint-{step}"):
            return f"goes on from checkpoint-{step}, which is on the machine"
    if local is None:
        raise SocratesError(
            f"nothing to resume from: no intact checkpoint of {run} on instance {instance.id}, and none in "
            f"models/{run} here; start without --resume"
        )
    _push(instance, run, local)
    return f"goes on from {local.name}, sent from here"


def _push(instance: Instance, run: str, folder: Path) -> None:
    incoming = f"models/{run}/.incoming/{folder.name}"
    instance.run(f"mkdir -p ~/{REMOTE_ROOT}/{shlex.quote(incoming)}")
    instance.send([f"{folder}/"], f"{REMOTE_ROOT}/{incoming}/")
    if not _is_intact_there(instance, incoming):
        raise SocratesError(f"{folder}: did not arrive intact on instance {instance.id}; run the same command again")
    # A damaged folder of that name is moved away, not deleted.
    instance.run(
        f"cd ~/{REMOTE_ROOT}/models/{shlex.quote(run)} && name={folder.name} && "
        'if [[ -e $name ]]; then mkdir -p set-aside && mv -T "$name" "set-aside/$name-$(date +%Y%m%dT%H%M%S)"; fi && '
        'mv -T ".incoming/$name" "$name"'
    )


def _is_intact_there(instance: Instance, folder: str) -> bool:
    done = instance.run(
        f"cd ~/{REMOTE_ROOT} && venv/bin/python scripts/verify_checkpoint.py {shlex.quote(folder)}", check=False
    )
    if done.status not in (0, 1):
        raise SocratesError(
            f"instance {instance.id}: cannot verify {folder}: {done.stderr.decode(errors='replace').strip()}"
        )
    return done.status == 0
