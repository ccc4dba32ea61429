"""A checkpoint folder without a manifest (other software's): taken only once it has stopped changing.

Covers: its files' names, sizes and times are the same before and after all of them were read there, and again after the
copy; the newest change is older than a minute; a training that holds the run's lock keeps everybody away.
Does not cover: whether the software that wrote it had finished: nothing in the folder says so.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass

from socrates.checkpoints import Manifest
from socrates.errors import SocratesError
from socrates.remote.instance import Instance
from socrates.remote.remote_checkpoints import LISTING_TIMEOUT, between_marks, inspect_files
from socrates.remote.transfer import NotThere, Plan, is_plain_path

SETTLE = 60.0  # seconds without a change
_PATIENCE = 15 * 60.0  # seconds that a folder may go on changing before we give up
_SNAPSHOT = r"""
printf 'socrates-begin\0now %s\0' "$(date +%s.%N)"
[ ! -f ../.training.lock ] || flock -n -s ../.training.lock true || printf 'training\0'
find . -printf '%y %s %T@ %C@ %P\0'
printf 'socrates-end\0'
"""


@dataclass(frozen=True)
class _Snapshot:
    files: tuple[tuple[str, ...], ...]  # size, time of change, path
    others: int  # links, sockets: never taken
    age: float  # seconds since the newest change, by the instance's clock


def plan_without_manifest(
    instance: Instance, source: str, step: int, *, settle: float, say: Callable[[str], None]
) -> Plan:
    """What to copy of a folder that has no manifest: all its plain files, with their SHA-256 computed there.

    Args:
        instance: where it is.
        source: the folder.
        step: N of its name.
        settle: seconds for which it must not have changed.
        say: told when it has to wait for that.

    Raises:
        NotThere: there is no such folder.
        SocratesError: a training is writing there, it goes on changing, or it holds a name that is not taken.
    """
    before = _wait_until_still(instance, source, settle, say)
    paths = [path for _, _, path in before.files]
    strange = [path for path in paths if not is_plain_path(path)]
    if strange or not paths:
        what = f"holds a name that is not taken from another machine: {strange[0][:120]!r}" if strange else "is empty"
        raise SocratesError(f"instance {instance.id}: {source} {what}")
    if before.others:
        say(f"{before.others} links or other special files in {source} are not taken")
    started = time.monotonic()
    there = inspect_files(instance, source, paths, digests=True)
    time.sleep(max(0.0, min(5.0, settle) - (time.monotonic() - started)))

    def confirm() -> None:
        if _snapshot(instance, source).files != before.files:
            raise SocratesError(f"instance {instance.id}: {source} changed while it was read; not taken")

    confirm()
    files = {path: (file.size, file.sha256 or "") for path, file in there.items() if file}
    return Plan(source, Manifest(step, 0, files), None, confirm)


def _wait_until_still(instance: Instance, source: str, settle: float, say: Callable[[str], None]) -> _Snapshot:
    deadline = time.monotonic() + _PATIENCE
    said = False
    while (now := _snapshot(instance, source)).age < settle:
        if time.monotonic() > deadline:
            raise SocratesError(f"instance {instance.id}: {source} has not stopped changing; not taken")
        if not said:
            say(f"{source} changed {max(now.age, 0):.0f} s ago; waiting until it has been still for {settle:.0f} s")
            said = True
        time.sleep(min(max(settle - now.age, 0.5), 10.0))
    return now


def _snapshot(instance: Instance, source: str) -> _Snapshot:
    done = instance.run(
        f"cd -- {shlex.quote(source)} 2>/dev/null || exit 45{_SNAPSHOT}", timeout=LISTING_TIMEOUT, check=False
    )
    if done.status == 45:
        raise NotThere(f"instance {instance.id}: no such folder: {source}")
    entries = [entry.decode(errors="surrogateescape") for entry in between_marks(done, instance)]
    if "training" in entries:
        raise SocratesError(
            f"instance {instance.id}: a training is writing into {source.rpartition('/')[0] or '.'} and has not "
            f"finished {source.rpartition('/')[2]}; it gets a manifest when it is whole, and can be downloaded then"
        )
    found = [entry.split(" ", 4) for entry in entries if not entry.startswith("now ")]
    now = next(float(entry[4:]) for entry in entries if entry.startswith("now "))
    newest = max(max(float(changed), float(moved)) for _, _, changed, moved, _ in found)
    files = sorted((size, changed, path) for kind, size, changed, _, path in found if kind == "f")
    return _Snapshot(tuple(files), sum(kind not in "fd" for kind, *_ in found), now - newest)
