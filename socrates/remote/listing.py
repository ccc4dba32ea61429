"""Listing of the checkpoints on an instance: one command for all, and no name is trusted.

Covers: names come separated by NUL and are matched against what this project writes before they are used as paths; a
hostile name, an answer cut off midway or without end harm nothing.
Does not cover: whether the files there are complete (the copy is verified, see `fetch.py`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from socrates.checkpoint import MANIFEST, is_run_name
from socrates.errors import SocratesError, plain
from socrates.files import read_text
from socrates.remote.instance import REMOTE_ROOT, Instance, Unreachable

MANIFEST_LIMIT = 10 * 2**20  # bytes; ours have a few KB
_ANSWER_LIMIT = 32 * 2**20  # bytes; 10,000 checkpoints take about 2 MB
_FOLDER = re.compile(rb"\./([^/]+)/checkpoint-(0|[1-9][0-9]{0,11})")
_LOOKS_LIKE_ONE = re.compile(rb"(?s).*/checkpoint-[0-9]+")
_MANIFEST_LINE = re.compile(rb"(?s)([0-9a-f]{64})  (\./.+)/manifest\.json")

_LIST_TRAININGS = Path(__file__).parents[2] / "scripts" / "lib" / "trainings.sh"
_LIST = rf"""
if [ -d {REMOTE_ROOT}/models ]; then
  cd {REMOTE_ROOT}/models || exit 3
  # -L: a run, or a checkpoint, may be a link to another disk
  find -L . -maxdepth 5 -name .incoming -prune -o -type d -name 'checkpoint-*' -print0
  find -L . -maxdepth 6 -name .incoming -prune -o -type f -name {MANIFEST} -exec sha256sum -z {{}} +
fi
"""
# dd tells its progress on standard error: no silence as long as the disk there gives anything.
_DIGESTS = r"""
while IFS= read -r -d '' path; do
  [ ! -f "$path" ] || [ -L "$path" ] || dd bs=4M status=progress <"$path" | sha256sum | cut -c 1-64 | tr -d '\n'
  printf '\0'
done
"""


@dataclass(frozen=True)
class RemoteCheckpoint:
    """A folder models/RUN/checkpoint-N on an instance."""

    run: str  # name of the run's folder
    step: int  # N
    manifest_sha256: str | None  # None where it has no manifest: not finished, or other software's

    @property
    def is_complete(self) -> bool:
        """Whether it has a manifest."""
        return self.manifest_sha256 is not None

    @property
    def name(self) -> str:
        """checkpoint-N."""
        return f"checkpoint-{self.step}"

    @property
    def folder(self) -> str:
        """Its path on the instance, relative to the home folder."""
        return f"{REMOTE_ROOT}/models/{self.run}/{self.name}"

    def place(self, models: Path) -> Path:
        """Where it is kept here."""
        return models / self.run / self.name


def list_folders(instance: Instance) -> tuple[list[RemoteCheckpoint], list[tuple[str, str | None]]]:
    """Every run's checkpoints on an instance, in one connection: by run, newest first; none without a models folder.

    And each other folder that may be a checkpoint, with its manifest's SHA-256.

    Raises:
        Unreachable: no connection, or the answer is cut off.
        SocratesError: the folder cannot be entered.
    """
    # `./RUN/checkpoint-N`, and `SHA256  ./RUN/checkpoint-N/manifest.json`
    entries = ask(instance, _LIST)
    digests = {match[2]: match[1].decode() for entry in entries if (match := _MANIFEST_LINE.fullmatch(entry))}
    found, unnamed = [], []
    for folder in sorted({*digests, *filter(_LOOKS_LIKE_ONE.fullmatch, entries)}):
        match, sha256 = _FOLDER.fullmatch(folder), digests.get(folder)
        if match and is_run_name(run := match[1].decode(errors="replace")):
            found.append(RemoteCheckpoint(run, int(match[2]), sha256))
        else:
            unnamed.append((plain(folder[2:].decode(errors="replace")), sha256))
    return sorted(found, key=lambda checkpoint: (checkpoint.run, -checkpoint.step)), unnamed


def list_trainings(instance: Instance) -> list[str]:
    """Names of the runs that are trained on an instance at this moment; "supervisor" where only that runs.

    Raises:
        Unreachable, SocratesError: it is unknown, and why.
    """
    script = f"cd {REMOTE_ROOT} || exit 3\n{read_text(_LIST_TRAININGS, 'program of this project')}"
    held = b"\0".join(ask(instance, f"[ ! -d {REMOTE_ROOT} ] || {{ {script}}}; printf '\\0'")).decode(errors="replace")
    locks = [plain(line.rpartition(", which holds ")[2]) for line in held.splitlines()]
    runs = [lock.split("/")[1] for lock in locks if lock.startswith("models/")]
    return runs or ["supervisor" for _ in locks[:1]]


def read_remote_manifest(instance: Instance, folder: str) -> bytes | None:
    """The bytes of a checkpoint's manifest on an instance, or None if there is none.

    Raises:
        Unreachable: no connection.
        SocratesError: it is larger than any manifest of ours.
    """
    path = shlex.quote(f"{folder}/{MANIFEST}")
    entries = ask(instance, f"[ ! -f {path} ] || {{ head -c {MANIFEST_LIMIT + 1} -- {path} && printf '\\0'; }}")
    if not entries:
        return None
    manifest = b"\0".join(entries)
    if len(manifest) > MANIFEST_LIMIT:
        raise SocratesError(f"instance {instance.id}: {folder}/{MANIFEST} is larger than {MANIFEST_LIMIT >> 20} MiB")
    return manifest


def remote_digests(instance: Instance, folder: str, paths: Sequence[str]) -> dict[str, str | None]:
    """SHA-256 of files in a folder on an instance; None for what is no plain file there.

    Raises:
        Unreachable: no connection.
        SocratesError: the folder cannot be entered.
    """
    names = b"".join(path.encode() + b"\0" for path in paths)
    entries = ask(instance, f"cd -- {shlex.quote(folder)} || exit 3{_DIGESTS}", names)
    return {path: entry.decode(errors="replace") or None for path, entry in zip(paths, entries, strict=False)}


def ask(instance: Instance, script: str, stdin: bytes = b"") -> list[bytes]:
    """The NUL-ended entries that a script prints there.

    Raises:
        Unreachable: no connection, or the answer is cut off.
        SocratesError: there is none, because the script failed or there is no such instance.
    """
    # Some shells greet: what counts stands between the two marks.
    body = f"printf 'socrates-begin\\0'\n{script}\nprintf 'socrates-end\\0'"
    done = instance.run(f"set -o pipefail\n{{ {body}; }} | head -c {_ANSWER_LIMIT}", stdin=stdin, accept=range(256))
    answer = done.stdout
    _, begun, rest = answer.partition(b"socrates-begin\0")
    # The end mark follows a NUL (or stands alone), so that no file's name can imitate it.
    if begun and (b"\0" + rest).endswith(b"\0socrates-end\0"):
        return rest.split(b"\0")[:-2]
    if 0 < done.returncode < 128:  # 128 and more: a signal ended it, as when the machine goes down
        raise instance.failure(done)
    raise Unreachable(f"instance {instance.id}: its answer is cut off ({len(answer)} bytes)")
