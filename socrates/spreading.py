"""Checkpoints of a run on machines that share no disk: whole on rank 0's machine, and back to the others to resume.

Every rank saves its shards to its own machine's disk. Before the manifest is written, the machines that do not see rank
0's output folder send theirs through the process group; once it is written they remove their own part, so that a
checkpoint lies in one place, complete, and their disks do not fill. To resume, rank 0's machine sends the checkpoint
to them, into `OUTPUT/.resumed/` (one at a time is kept there), and every file's SHA-256 is compared.
Covers: machines that do share the disk, and a run on one machine, send nothing.
Does not cover: data, code and models; see `machine/host_checks.py`.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.checkpoints import MANIFEST, list_checkpoints, set_aside
from socrates.files import sha256_file
from socrates.ranks import barrier, fail_together, leads_host, number_of_hosts, on_rank_zero, rank

if TYPE_CHECKING:
    import torch

RESUMED = ".resumed"
_CHUNK = 2**26  # bytes that travel at once
_LOOKS = (0.0, 1.0, 3.0)  # seconds before each; a network disk remembers for a while that a name was not there
Listing = Sequence[tuple[str, int]]  # relative path, bytes


@contextmanager
def gathered(folder: Path) -> Iterator[None]:
    """Inside, rank 0's `checkpoint-N` holds the files of every rank; afterwards no other machine keeps its part.

    To be entered by every rank, after a barrier that follows its last write.

    Raises:
        SocratesError: on every rank; a file could not be read, sent or written.
    """
    apart = _ranks_apart(folder.parent)
    if apart:
        _gather(folder, apart)
    yield
    if rank() in apart and leads_host():
        if MANIFEST in _names(folder):  # only rank 0 writes it, on its own disk
            print(f"{folder}: the disk is rank 0's after all; the checkpoint is left as it is", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def on_every_host(checkpoint: Path | None, output_dir: Path) -> Path | None:
    """The folder in which this rank finds a checkpoint that rank 0 has chosen (None: starting anew).

    To be called by every rank, before the first save. On a machine that does not see rank 0's disk, what earlier runs
    left under names that will be written is put out of the way: parts are removed, whole checkpoints set aside.

    Raises:
        SocratesError: on every rank; the checkpoint could not be read, sent or written.
    """
    apart = _ranks_apart(output_dir)
    if not apart:
        return checkpoint
    if rank() in apart and leads_host():
        _clear(output_dir)
    if checkpoint is None:
        return None
    return _copy(checkpoint, output_dir / RESUMED / checkpoint.name, apart)


def check_same(what: str, value: str) -> None:
    """SocratesError on every rank unless all have the same value: ranks that learn from other rows go unnoticed."""
    if number_of_hosts() == 1:
        return
    found = _all_gather(value)
    if len(set(found)) > 1:
        fail_together(
            f"the hosts do not have the same {what}: {', '.join(sorted(set(found)))}; the data, the model's "
            "tokenizer and the code must be the same on every host (scripts/hosts.py check)"
        )


@functools.cache
def _ranks_apart(output_dir: Path) -> frozenset[int]:
    """The ranks that do not see the output folder of rank 0; found out once, by all ranks together."""
    if number_of_hosts() == 1:
        return frozenset()

    def leave_mark() -> str:
        output_dir.mkdir(parents=True, exist_ok=True)
        mark = output_dir / f".host-{uuid.uuid4().hex}"
        mark.touch()
        return mark.name

    mark = output_dir / on_rank_zero(leave_mark)
    sees = _all_gather(_sees(mark))
    if rank() == 0:
        mark.unlink(missing_ok=True)
    return frozenset(number for number, seen in enumerate(sees) if not seen)


def _sees(mark: Path) -> bool:
    """Whether a file that another host has just made is here; a look at the folder asks a network disk anew."""
    for pause in _LOOKS:
        time.sleep(pause)
        if mark.name in _names(mark.parent):
            return True
    return False


def _names(folder: Path) -> Collection[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return ()


def _gather(folder: Path, apart: Collection[int]) -> None:
    sends = rank() in apart and leads_host()
    listings: list[Listing] = _all_gather(_listing(folder) if sends or rank() == 0 else [])
    there = {name for name, _ in listings[0]}
    for source in sorted(apart):
        wanted = [(name, size) for name, size in listings[source] if name not in there]
        there |= {name for name, _ in wanted}
        _carry(source, {0}, folder, folder, wanted)


def _copy(checkpoint: Path, target: Path, apart: Collection[int]) -> Path:
    digests: dict[str, str] = on_rank_zero(lambda: _digests(checkpoint))
    receives = rank() in apart and leads_host()
    needed = receives and (not target.is_dir() or _digests(target) != digests)
    receivers = {number for number, needs in enumerate(_all_gather(needed)) if needs}
    partial = target.with_name(f"{target.name}.partial")
    if needed:
        shutil.rmtree(target.parent, ignore_errors=True)
    if receivers:
        listing = on_rank_zero(lambda: _listing(checkpoint))
        _carry(0, receivers, checkpoint, partial, listing)
        if needed:
            partial.rename(target)
    barrier()
    return target if rank() in apart else checkpoint


def _carry(source: int, targets: Collection[int], from_folder: Path, to_folder: Path, listing: Listing) -> None:
    """Send files of one rank's folder to others. Every rank takes part in each broadcast, whatever fails on the way."""
    problem, digests = None, {}
    for name, size in listing:
        digest = hashlib.sha256()
        with ExitStack() as stack:
            file = None
            try:
                if rank() == source:
                    file = stack.enter_context((from_folder / name).open("rb"))
                elif rank() in targets:
                    (to_folder / name).parent.mkdir(parents=True, exist_ok=True)
                    file = stack.enter_context((to_folder / name).open("wb"))
            except OSError as error:
                problem = problem or f"{name}: {error.strerror or error}"
            for start in range(0, size, _CHUNK):
                chunk = bytearray(min(_CHUNK, size - start))
                try:
                    if file is not None and rank() == source and file.readinto(chunk) != len(chunk):
                        problem = problem or f"{name}: became shorter while it was sent"
                    chunk = _broadcast(chunk, source)
                    if file is not None and rank() != source:
                        file.write(chunk)
                except OSError as error:
                    problem = problem or f"{name}: {error.strerror or error}"
                    file = None
                digest.update(chunk)
            try:
                if file is not None and rank() != source:
                    file.flush()
            except OSError as error:
                problem = problem or f"{name}: {error.strerror or error}"
        digests[name] = digest.hexdigest()
    _agree(source, targets, problem, digests, to_folder)


def _agree(source: int, targets: Collection[int], problem: str | None, digests: dict[str, str], folder: Path) -> None:
    """SocratesError on every rank where sending failed on any."""
    told: list[tuple[str | None, Any]] = _all_gather((problem, digests))
    for number, (text, got) in enumerate(told):
        if text is None and number in targets and got != told[source][1]:
            text = "what arrived is not what was sent"
        if text is not None:
            fail_together(
                f"{folder}: cannot bring the checkpoint from rank {source} to another host: {text} (rank {number}); "
                "free some space there if it is full, and run the same command again"
            )


def _broadcast(chunk: bytearray, source: int) -> bytearray:
    import torch
    import torch.distributed as dist

    part = torch.frombuffer(chunk, dtype=torch.uint8)
    if dist.get_backend() == "nccl":
        moved: torch.Tensor = part.cuda()
        dist.broadcast(moved, src=source)
        part.copy_(moved)
    else:
        dist.broadcast(part, src=source)
    return chunk


def _all_gather(value: Any) -> list[Any]:
    import torch.distributed as dist

    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _clear(output_dir: Path) -> None:
    for folder in list_checkpoints(output_dir):
        with suppress(OSError):
            if (folder / MANIFEST).is_file():
                print(f"{folder} lies on a host that is not the run's first: moved to {set_aside(folder)}", flush=True)
            else:
                shutil.rmtree(folder)


def _listing(folder: Path) -> Listing:
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def _digests(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / name) for name, _ in _listing(folder)}
