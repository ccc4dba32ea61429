"""Barrier, broadcast and joint failure of the ranks of a run."""

from __future__ import annotations

import os
import platform
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist

from socrates.errors import EXIT_CANNOT, SocratesError

_MARK = ".rank-0-"
_LOOKS = (0.0, 1.0, 3.0, 10.0, 30.0)  # seconds before each


@contextmanager
def errors_from_rank_zero() -> Iterator[None]:
    """For errors that every rank of a host meets alike: one raises its SocratesError, the others exit with 2 silently.

    On one host that is rank 0; of several, one rank a host: what is missing on one may be there on the others.
    """
    try:
        yield
    except SocratesError:
        if int(os.environ.get("LOCAL_RANK", rank())) == 0:
            raise
        _leave_in_silence()


def fail_together(message: str) -> NoReturn:
    """For an error that every rank of the run knows: rank 0 raises it, the others leave with 2 in silence."""
    if rank() == 0:
        if dist.is_initialized() and dist.get_backend() == "gloo":
            # Left to the end of the process its threads were seen to abort it: the status would be that of a crash.
            dist.destroy_process_group()
        raise SocratesError(message)
    _leave_in_silence()


def _leave_in_silence() -> NoReturn:
    time.sleep(10)  # the launcher stops all ranks at the first exit: let the one with the message print it first
    sys.exit(EXIT_CANNOT)


def rank() -> int:
    """This process's number in the run, from 0; the launcher sets it."""
    return int(os.environ.get("RANK", "0"))


def on_rank_zero(work: Callable[[], Any]) -> Any:
    """Run ``work`` on rank 0 and give its result, or its SocratesError, to every rank."""
    if not dist.is_initialized():
        return work()
    box: list[Any] = [None, None]
    if rank() == 0:
        try:
            box[0] = work()
        except SocratesError as error:
            box[1] = str(error)
        except OSError as error:
            box[1] = f"{error.filename or 'cannot write'}: {error.strerror or error}"
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        fail_together(box[1])
    return box[0]


def gather(value: Any) -> list[Any]:
    """Every rank's value, by rank; every rank must ask at the same point."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def check_shared(folder: Path, data: str) -> None:
    """Prove that all ranks see rank 0's output folder and have its data.

    Else a manifest would lack the shards of another machine, or ranks would learn from other rows, without a word.

    Args:
        folder: the output folder; rank 0 makes it, and a mark in it that is there for as long as the others look.
        data: a fingerprint of the rows.

    Raises:
        SocratesError: one of them does not, or rank 0 cannot write there.
    """
    try:
        mark, wanted = on_rank_zero(lambda: (_leave_mark(folder), data))
        problem = None
        if data != wanted:
            problem = (
                f"the rows are {data}, not {wanted}; the data, the model's tokenizer and the code must be the same on "
                "every machine: send them there again"
            )
        elif not _comes_true((folder / mark).is_file):
            found = "is another folder than rank 0's" if folder.is_dir() else "is not there"
            problem = (
                f"{folder} {found}, and a checkpoint needs the shards of every rank; put output_dir on a file system "
                "that all machines have at this path"
            )
        told = gather(problem and f"{platform.node()}: {problem}")
    finally:
        if rank() == 0:
            for path in folder.glob(f"{_MARK}*"):  # those of a run that was killed, too
                path.unlink(missing_ok=True)
    if problems := [f"rank {number} on {text}" for number, text in enumerate(told) if text]:
        fail_together("\n  ".join(["nothing was trained: not every rank has what rank 0 has", *problems]))


def _leave_mark(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    mark = f"{_MARK}{uuid.uuid4().hex}"  # a network disk remembers names that were looked up before
    (folder / mark).touch()
    return mark


def _comes_true(seen: Callable[[], bool]) -> bool:
    """Whether something shows on a disk, soon or after a while: a network disk remembers what was not there."""
    for pause in _LOOKS:
        time.sleep(pause)
        with suppress(OSError):
            if seen():
                return True
    return False


def wait_for_files(folder: Path) -> None:
    """Wait until every rank has written its files into a folder and rank 0 sees them all, as large as they are.

    A network disk shows another machine's files late: a manifest that is made before would lack its shards.

    Raises:
        SocratesError: rank 0 still does not see one after a while.
    """

    def sizes() -> dict[Path, int]:
        return {path.relative_to(folder): path.stat().st_size for path in folder.rglob("*") if path.is_file()}

    seen = gather(sizes())
    wanted = {path: max(found.get(path, 0) for found in seen) for path in set().union(*seen)}
    if not on_rank_zero(lambda: _comes_true(lambda: wanted.items() <= sizes().items())):
        fail_together(
            f"{folder}: what another rank has written does not show where rank 0 runs; put output_dir on a file system "
            "that all machines have, and run the same command again"
        )


def end_process_group() -> None:
    """End the process group, once every process is here: left to the interpreter, one was seen to abort."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
