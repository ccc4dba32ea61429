"""A model in this process, or in several, one a GPU: a batch goes to the first process that is free.

Covers: every process computes the same batches as one alone would, so their number does not change a result. Memory
that runs out in one halves the budget of all. Whatever ends this process ends the others.
Does not cover: one model over several GPUs, and several machines.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from socrates.errors import SocratesError
from socrates.inference.batching import BatchQueue, Budget, attempt

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from socrates.inference.decoding import Decoding
    from socrates.inference.engine import AnswerDistribution, Engine, Question

Answers = Iterator["tuple[Sequence[int], list[AnswerDistribution]]"]


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
    fits, engine = attempt(lambda budget: make_engine(max_batch_tokens=budget), max_batch_tokens)
    if not fits:
        raise SocratesError(
            f"{model}: memory holds the model, but not one question; use a GPU with more memory, or end what else uses "
            "it"
        )
    return engine


class EnginePool:
    """The model in several processes, used like an `Engine`.

    Attributes:
        budget: the most tokens in one forward; halved for all where memory runs out in one.
        overhead: as of `Engine`.
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
        self._processes: dict[Connection, BaseProcess] = {}
        try:
            for device in devices:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, load, device, threads), daemon=True)
                with _interrupts_held_back():
                    process.start()
                theirs.close()  # so that its end is seen here
                self._processes[ours] = process
            ready = [self._receive(connection) for connection in self._processes]
        except BaseException:
            self.close()
            raise
        budgets, (self.overhead, *_), (self.about, *_) = zip(*ready, strict=True)
        self.budget = Budget(min(budgets))

    def answer_all(self, questions: Sequence[Question], queue: BatchQueue, sampled: Sequence[int]) -> Answers:
        """As `Engine.answer_all`."""
        alone = deque([index] for index in sampled)
        free = deque(self._processes)
        busy: dict[Connection, list[int]] = {}

        def hand_out() -> None:
            while free and (batch := queue.take() or (alone.popleft() if alone else None)):
                connection = free.popleft()
                self._send(connection, [questions[index] for index in batch], queue.budget.tokens)
                busy[connection] = batch

        hand_out()
        while busy:
            for connection in wait(list(busy)):
                results = self._receive(connection)
                batch = busy.pop(connection)
                free.append(connection)
                if results is None:
                    queue.put_back(batch)
                hand_out()  # first: the process works on while the caller writes
                if results is not None:
                    yield batch, results

    def close(self) -> None:
        """End the processes."""
        for connection, process in self._processes.items():
            connection.close()
            process.terminate()
        for process in self._processes.values():
            process.join(5)
            if process.is_alive():
                process.kill()
        self._processes.clear()

    def _send(self, connection: Connection, *message: Any) -> None:
        with suppress(OSError):  # it has ended: receiving tells why
            connection.send(message)

    def _receive(self, connection: Connection) -> Any:
        try:
            failure, answer = connection.recv()
        except (EOFError, OSError) as error:  # OSError: in the middle of what it sends
            process = self._processes[connection]
            process.join(10)
            raise SocratesError(
                f"a process that runs the model has ended ({_how(process.exitcode)}); the answers so far are kept: "
                "run the same command again to go on"
            ) from error
        if failure is not None:
            raise SocratesError(failure)
        return answer


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


def _serve(connection: Connection, load: Callable[..., Engine], device: str | None, threads: int) -> None:
    """What each process does until nobody listens: (questions, budget) in, (failure, distributions) out.

    Distributions are None where memory did not hold that many questions.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            import torch

            from socrates.model.load import quiet_libraries

            quiet_libraries(bars=False)
            torch.set_num_threads(threads)
            engine = load(device=device)
            connection.send((None, (engine.budget.tokens, engine.overhead, engine.about)))
            while True:
                questions, budget_tokens = connection.recv()
                engine.budget.tokens = min(engine.budget.tokens, budget_tokens)
                _, results = attempt(engine.answer, questions)
                connection.send((None, results))
        except SocratesError as error:
            connection.send((str(error), None))


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
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _how(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = str(-exitcode)
    return f"signal {name}" + (": perhaps this machine has too little memory" if name == "SIGKILL" else "")
