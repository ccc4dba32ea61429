"""Logs of an instance: what its trainings told, money and utilisation among it, kept in models/logs/instance-ID/.

Covers: only what is new is asked for, in parts of a bounded size, and added once the copy here is known to be the
log's beginning; a copy of another log (another machine has that ID now) is set aside. A copy is complete that is as
long as the log was when it was listed. Does not cover: what the logs say.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from socrates.checkpoint import set_aside
from socrates.errors import SocratesError, plain
from socrates.remote.instance import REMOTE_ROOT, Instance, Unreachable
from socrates.remote.listing import ask
from socrates.remote.local import known_sha256, local_errors
from socrates.telemetry.log import TRAINING_LOG

_PART = 16 * 2**20  # bytes of one answer
_LIMIT = 2 * 2**30  # bytes of an instance's logs here
_ENTRY = re.compile(rb"(?s)([0-9a-f]{64}) ([1-9][0-9]{0,14}) ((?:models/)?((?:[^/.][^/]*/){0,4}[^/.][^/]*))")
_LIST = rf"""
if cd {REMOTE_ROOT} 2>/dev/null; then
  {{
    find -L . -maxdepth 1 -type f -name '*.log' -size +0 -printf '%P\0'
    find -L models -maxdepth 5 -type f -name {TRAINING_LOG} -size +0 -print0
  }} 2>/dev/null | while IFS= read -r -d '' path; do
    size=$(stat -L -c %s -- "$path") || continue
    printf '%s %s %s\0' "$(head -c "$size" -- "$path" | sha256sum | head -c 64)" "$size" "$path"
  done
fi
"""
_MORE = rf"""
cd {REMOTE_ROOT} && IFS= read -r -d '' path || exit 3
head -c %d -- "$path" | sha256sum | head -c 64; printf '\0'
tail -c +%d -- "$path" | head -c {_PART}; printf '\0'
"""


def fetch_logs(instance: Instance, models: Path) -> list[str]:
    """Bring each log on an instance here, as long as it is when listed; a line for each that cannot be brought."""
    folder, lines = models / "logs" / f"instance-{instance.id}", []
    for entry in ask(instance, _LIST):
        try:
            if not (listed := _ENTRY.fullmatch(entry)):
                raise SocratesError("its name is none of ours")
            target = folder.joinpath(*map(quote, listed[4].split(b"/")))
            with local_errors(target):
                _bring(instance, listed, target, folder)
        except Unreachable:
            raise
        except SocratesError as error:
            name = plain(entry[65:].partition(b" ")[2].decode(errors="replace"))
            lines.append(f"the log {name} is not here: {error}")
    return lines


def _bring(instance: Instance, listed: re.Match[bytes], target: Path, folder: Path) -> None:
    sha256, size, path = listed[1].decode(), int(listed[2]), listed[3]
    for _ in range(_LIMIT // _PART + 3):  # parts; a machine that gives less at a time does not keep us for ever
        if (ours := known_sha256(target) if target.exists() else "") == sha256:
            return
        have = target.stat().st_size if ours else 0
        theirs, _, more = b"\0".join(ask(instance, _MORE % (have, have + 1), path + b"\0")).partition(b"\0")
        if have and theirs.decode(errors="replace") != ours:
            set_aside(target)
            continue
        if have >= size:
            return
        if not more:
            break
        if sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) + _PART > _LIMIT:
            raise SocratesError(f"the logs in {folder} take {_LIMIT / 2**30:.0f} GiB; move them away")
        target.parent.mkdir(parents=True, exist_ok=True)
        # At its place, not at the end: another program may bring the same bytes.
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
            file.seek(have)
            file.write(more[: min(_PART, size - have)])
            file.flush()
            os.fsync(file.fileno())
    raise SocratesError("it was changed while it was copied")
