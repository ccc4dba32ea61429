"""What the processes of one run do together: wait, hear one answer, fail with one voice."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from socrates.errors import EXIT_CANNOT, SocratesError


@contextmanager
def errors_from_rank_zero() -> Iterator[None]:
    """For errors that every rank meets alike: rank 0 raises its SocratesError, the others leave with 2 in silence."""
    try:
        yield
    except SocratesError:
        if rank() == 0:
            raise
        time.sleep(10)  # the launcher stops all ranks at the first exit: let rank 0 speak first
        sys.exit(EXIT_CANNOT)


def rank() -> int:
    """This process's number in the run, from 0; the launcher sets it."""
    return int(os.environ.get("RANK", "0"))


def on_rank_zero(work: Callable[[], Any]) -> Any:
    """Run ``work`` on rank 0 and give its result, or its SocratesError, to every rank."""
    import torch.distributed as dist

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
    with errors_from_rank_zero():
        if box[1] is not None:
            raise SocratesError(box[1])
    return box[0]


def barrier() -> None:
    """Wait until every process of the run is here."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()


def part() -> None:
    """End the process group, once every process is here.

    Left to the interpreter's end, a process was seen to abort although its training was complete.
    """
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def max_over_ranks(value: int) -> int:
    """The largest of all ranks' numbers; every rank must ask at the same point."""
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        return int(value)
    device = "cuda" if "nccl" in dist.get_backend() else "cpu"
    box = torch.tensor([int(value)], dtype=torch.int64, device=device)
    dist.all_reduce(box, op=dist.ReduceOp.MAX)
    return int(box.item())
