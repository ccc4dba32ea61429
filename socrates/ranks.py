"""What the processes of one run do together: wait, hear one answer, fail with one voice."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from socrates.errors import EXIT_CANNOT, SocratesError


@contextmanager
def errors_from_rank_zero() -> Iterator[None]:
    """For errors that every rank of a host meets alike: one raises its SocratesError, the others leave with 2 silently.

    On one host that is rank 0; of several, each has its say: what is missing on one may be there on the others.
    """
    try:
        yield
    except SocratesError:
        if leads_host():
            raise
        _leave_in_silence()


def fail_together(message: str) -> NoReturn:
    """For an error that every rank of the run knows: rank 0 raises it, the others leave with 2 in silence."""
    import torch.distributed as dist

    if rank() == 0:
        if dist.is_initialized() and dist.get_backend() == "gloo":
            # Left to the end of the process its threads were seen to abort it: the status would be that of a crash.
            dist.destroy_process_group()
        raise SocratesError(message)
    _leave_in_silence()


def _leave_in_silence() -> NoReturn:
    time.sleep(10)  # the launcher stops all ranks at the first exit: let the one that speaks do so first
    sys.exit(EXIT_CANNOT)


def rank() -> int:
    """This process's number in the run, from 0; the launcher sets it."""
    return int(os.environ.get("RANK", "0"))


def number_of_hosts() -> int:
    """How many machines the run is on; DeepSpeed's launcher sets it."""
    return int(os.environ.get("CROSS_SIZE", "1"))


def leads_host() -> bool:
    """Whether this process is the first of its machine; on one machine that is rank 0."""
    return rank() == 0 if number_of_hosts() == 1 else os.environ.get("LOCAL_RANK", "0") == "0"


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
    if box[1] is not None:
        fail_together(box[1])
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
