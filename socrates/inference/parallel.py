"""A model in this process, or in several, one a GPU: a batch goes to the first process that is free.

Covers: memory that runs out in one process halves the budget of all; whatever ends this process ends the others.
Does not cover: one model over several GPUs, and several machines.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for
from typing import TYPE_CHECKING, Any

from socrates.errors import SocratesError
from socrates.inference.batching import BatchQueue, unless_out_of_memory

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from socrates.inference.decoding import Decoding
    from socrates.inference.engine import AnswerDistribution, Engine, Question


def load_engine(
    model: str,
    *,
    base_model: str | None,
    revision: str | None,
    beginning: tuple[int, ...],
    decoding: Decoding,
    seed: int,
    max_batch_tokens: int | None,
    device: str | None = None,
) -> Engine:
    """Load a model and make an engine of it; raises what `load_model` and `Engine` raise."""
    from socrates.inference.engine import Engine
    from socrates.model.load import load_model

    loaded = load_model(model, device=device, revision=revision, base_model=base_model)
    make_engine = partial(Engine, loaded, beginning, decoding, seed=seed)
    engine = unless_out_of_memory(lambda budget: make_engine(max_batch_tokens=budget), max_batch_tokens)
    if engine is None:
        raise SocratesError(
            f"{model}: memory holds the model, but not one question; use a GPU with more memory, or end what else uses "
            "it"
        )
    return engine


class EnginePool:
    """The model in several processes, used like an `Engine`.

    Attributes:
        budget: as of `Engine`, the least of all.
        about: as of `Engine`.
    """

    def __init__(self, load: Callable[..., Engine], devices: Sequence[str | None], threads: int) -> None:
        """Start the processes and wait until every one has loaded the model.

        Args:
            load: makes the engine of a process, on ``device``; can be pickled.
            devices: of each process; None: the CPU.
            threads: of each process, on a CPU.

        Raises:
            SocratesError: one of them cannot load the model, or has ended.
        """
        context = multiprocessing.get_context("spawn")  # a fork would share the state of the libraries' threads
        free = context.SimpleQueue()
        for device in devices:
            free.put(device)
        self._count = len(devices)
        self._pool = ProcessPoolExecutor(self._count, context, _prepare, (load, free, threads))
        try:
            with _interrupts_held_back():
                ready = [self._pool.submit(_load) for _ in devices]
            budgets, (self.about, *_) = zip(*map(_result, ready), strict=True)
            self.budget = min(budgets)
        except BaseException:
            self.close()
            raise

    def answer_all(
        self, questions: Sequence[Question], queue: BatchQueue, sampled: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], list[AnswerDistribution]]]:
        """As `Engine.answer_all`."""
        alone = deque([index] for index in sampled)
        running: dict[Future, list[int]] = {}

        def hand_out() -> None:
            while len(running) < self._count and (batch := queue.take() or (alone.popleft() if alone else None)):
                future = self._pool.submit(_answer, [questions[index] for index in batch], queue.budget)
                running[future] = batch

        hand_out()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                results = _result(future)
                batch = running.pop(future)
                if results is None:
                    queue.put_back(batch)
                hand_out()  # first: the process works on while the caller writes
                if results is not None:
                    yield batch, results

    def close(self) -> None:
        """End the processes, whatever they do."""
        for process in multiprocessing.active_children():
            process.terminate()
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def open_engine(load: Callable[..., Engine], processes: int | None) -> Iterator[Engine | EnginePool]:
    """Load a model, in this process or in several.

    Args:
        load: as of `EnginePool`.
        processes: how many; None: one a GPU, and one where there is none.

    Raises:
        SocratesError: more processes than GPUs, or the model cannot be loaded.
    """
    import torch

    gpus = torch.cuda.device_count()
    count = processes or max(gpus, 1)
    if gpus and count > gpus:
        raise SocratesError(f"--processes {count}: this machine has {gpus} GPU{'s' * (gpus > 1)}, and each takes one")
    if count == 1:
        yield load()
        return
    devices = [f"cuda:{n}" if gpus else None for n in range(count)]
    with closing(EnginePool(load, devices, max(1, torch.get_num_threads() // count))) as pool:
        yield pool


def _result(future: Future) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise SocratesError(
            "a process that runs the model was ended, perhaps because this machine has too little memory; the answers "
            "so far are kept: run the same command again to go on"
        ) from error


# What follows runs in the pool's processes; each makes its engine when it is given its first work.

_how: tuple[Callable[..., Engine], SimpleQueue]
_engine: Engine | None = None


def _prepare(load: Callable[..., Engine], free: SimpleQueue, threads: int) -> None:
    global _how
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    from socrates.model.load import quiet_libraries

    quiet_libraries(bars=False)
    torch.set_num_threads(threads)
    _how = load, free


def _load() -> tuple[int, dict[str, Any]]:
    global _engine
    if _engine is None:
        load, free = _how
        _engine = load(device=free.get())
    return _engine.budget, _engine.about


def _answer(questions: list[Question], budget: int) -> list[AnswerDistribution] | None:
    """None where memory does not hold that many questions."""
    _load()
    _engine.budget = min(_engine.budget, budget)
    return unless_out_of_memory(_engine.answer, questions)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A process that is started here never sees Ctrl+C, which reaches all of a terminal: the first ends the others."""
    resource_tracker.ensure_running()  # else starting a process starts it, and that lets interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Also while a model is loading, or a batch is computed: a new run needs the memory."""
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)
