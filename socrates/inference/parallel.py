"""A model in this process, or in several, one a GPU: a batch goes to the first process that is free.

Covers: memory that runs out in one process halves the budget of all; whatever ends this process ends the others; one
that is killed, also while it sends, is an error. That is why concurrent.futures' pool is not taken: its processes share
a pipe, and one that is killed in the middle of a message leaves the parent waiting without end.
Does not cover: one model over several GPUs, and several machines.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import torch

from socrates.errors import SocratesError
from socrates.inference.batching import BatchQueue
from socrates.model.load import quiet_libraries

if TYPE_CHECKING:
    from socrates.inference.engine import AnswerDistribution, Engine, Question


class EnginePool:
    """The model in several processes, used like an `Engine`.

    Attributes:
        budget: as of `Engine`, the least of all.
        about: as of `Engine`.
    """

    def __init__(self, workers: Mapping[Connection, BaseProcess]) -> None:
        """Wait until the processes have loaded the model; raises what their loading raises."""
        self._workers = workers
        budgets, (self.about, *_) = zip(*map(self._receive, workers), strict=True)
        self.budget = min(budgets)

    def answer_all(
        self, questions: Sequence[Question], lengths: Mapping[int, int | None]
    ) -> Iterator[tuple[list[int], list[AnswerDistribution]]]:
        """As `Engine.answer_all`."""
        queue = BatchQueue(lengths, self.budget)
        running: dict[Connection, list[int]] = {}

        def hand_out() -> None:
            for worker in self._workers:
                if worker not in running and (batch := queue.take()):
                    with suppress(ConnectionError):  # a process that has ended: `_receive` says how
                        worker.send(([questions[index] for index in batch], queue.budget))
                    running[worker] = batch

        hand_out()
        while running:
            for worker in connection.wait(running):
                results, batch = self._receive(worker), running.pop(worker)
                if results is None:
                    queue.put_back(batch)
                hand_out()  # first: the process works on while the caller writes
                if results is not None:
                    yield batch, results

    def _receive(self, worker: Connection) -> Any:
        """What a process sends next; raises the error that it sends instead, or says that it has ended."""
        try:
            value, error = worker.recv()
        except (EOFError, OSError) as gone:  # in the middle of a message it is an OSError
            process = self._workers[worker]
            process.join()
            status = process.exitcode or 0
            how = f"was killed (signal {-status})" if status < 0 else f"ended by itself (status {status})"
            raise SocratesError(
                f"a worker process {how}, for lack of memory perhaps; run the same command again, and if that happens "
                "again with fewer processes (--processes 1)"
            ) from gone
        if error is not None:
            raise error
        return value


@contextmanager
def open_engine(load: Callable[..., Engine], processes: int | None) -> Iterator[Engine | EnginePool]:
    """Load a model, in this process or in several.

    Args:
        load: makes the engine of a process, on ``device``; can be pickled.
        processes: how many; None: one a GPU, and one where there is none.

    Raises:
        SocratesError: more processes than GPUs, or the model cannot be loaded.
    """
    gpus = torch.cuda.device_count()
    count = processes or max(gpus, 1)
    if gpus and count > gpus:
        raise SocratesError(f"--processes {count}: this machine has {gpus} GPU{'s' * (gpus > 1)}, and each takes one")
    if count == 1:
        yield load()
        return
    threads = max(1, torch.get_num_threads() // count)
    workers: dict[Connection, BaseProcess] = {}
    try:
        resource_tracker.ensure_running()  # here: when it is started, it lets interrupts through again
        for number in range(count):
            _start(workers, load, f"cuda:{number}" if gpus else None, threads)
        yield EnginePool(workers)
    finally:
        for process in workers.values():
            process.kill()
        for process in workers.values():
            process.join()


def _start(workers: dict[Connection, BaseProcess], *arguments: Any) -> None:
    # spawned, not forked: libraries may have threads already, and a fork would inherit locks
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, *arguments), daemon=True)
    # Ctrl-C waits, and the process never sees it: it would end with a traceback
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with theirs:
            process.start()
        workers[ours] = process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(parent: Connection, load: Callable[..., Engine], device: str | None, threads: int) -> None:
    """What a process does: load the model, and answer batches until it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says what to do
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quiet_libraries(bars=False)
    torch.set_num_threads(threads)
    error: Exception
    try:
        engine = load(device=device)
        parent.send(((engine.budget, engine.about), None))
        while True:
            questions, budget = parent.recv()
            engine.budget = min(engine.budget, budget)
            parent.send((engine.answer(questions), None))
    except SocratesError as told:
        error = SocratesError(str(told))
    except Exception:
        error = RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
    with suppress(ConnectionError):
        parent.send((None, error))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
