"""A model that is asked in this process, or in several, one a GPU: batches go to whoever is free.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol

from socrates.errors import SocratesError
from socrates.inference.batching import BatchQueue, attempt

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from socrates.inference.engine import AnswerDistribution, Decoding, Engine, Question

Answers = Iterator["tuple[Sequence[int], list[AnswerDistribution]]"]


@dataclass(frozen=True)
class ModelSource:
    """Which model: arguments of `load_model`."""

    name: str
    base_model: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class EngineSettings:
    """What it takes to make an `Engine` in any process: a model, and arguments of `Engine`."""

    model: ModelSource
    beginning: tuple[int, ...]
    decoding: Decoding
    seed: int
    max_batch_tokens: int | None

    def make(self, device: str | None = None) -> Engine:
        """Load the model and make it ready; raises what `load_model` and `Engine` raise."""
        from socrates.inference.engine import Engine
        from socrates.model.load import load_model

        model = self.model
        loaded = load_model(model.name, device=device, revision=model.revision, base_model=model.base_model)
        make_engine = partial(Engine, loaded, self.beginning, self.decoding, seed=self.seed)
        fits, engine = attempt(lambda budget: make_engine(max_batch_tokens=budget), self.max_batch_tokens)
        if not fits:
            raise SocratesError(
                f"{model.name}: memory holds the model, but not one question; use a GPU with more memory, or end what "
                "else uses it"
            )
        return engine


@dataclass(frozen=True)
class Ready:
    """What is known once a model is loaded."""

    batch_tokens: int  # the most in one forward
    overhead: int  # of a batch, in tokens
    about: dict[str, Any]  # for the record (`Engine.about`)


class Engines(Protocol):
    """One model, ready to be asked, somewhere."""

    ready: Ready

    def ask(self, questions: Sequence[Question], queue: BatchQueue, drawn: Sequence[int]) -> Answers:
        """Ask what waits in the queue, then the questions that need draws: (indices, distributions) as they come."""

    def close(self) -> None:
        """Let go of the model."""


class LocalEngine:
    """The model in this process."""

    def __init__(self, settings: EngineSettings) -> None:
        """Load the model; raises what `EngineSettings.make` raises."""
        self._engine = settings.make()
        self.ready = _ready(self._engine)

    def ask(self, questions: Sequence[Question], queue: BatchQueue, drawn: Sequence[int]) -> Answers:
        """As `Engines.ask`."""
        return self._engine.ask_all(questions, queue, drawn)

    def close(self) -> None:
        """Nothing to do: the model goes with this object."""


class EngineProcesses:
    """The model in several processes."""

    def __init__(self, settings: EngineSettings, count: int, threads: int, devices: Sequence[str | None]) -> None:
        """Start the processes and wait until every one has loaded the model.

        Args:
            settings: of each.
            count: of processes.
            threads: of each process, on a CPU.
            devices: of each process; None: the CPU.

        Raises:
            SocratesError: one of them cannot load the model, or has ended.
        """
        context = multiprocessing.get_context("spawn")  # a fork would share the state of the libraries' threads
        self._processes: dict[Connection, BaseProcess] = {}
        try:
            for device in devices[:count]:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, settings, device, threads), daemon=True)
                with _interrupts_held_back():
                    process.start()
                theirs.close()  # so that its end is seen here
                self._processes[ours] = process
            ready = [self._receive(connection) for connection in self._processes]
        except BaseException:
            self.close()
            raise
        self.ready = replace(ready[0], batch_tokens=min(one.batch_tokens for one in ready))

    def ask(self, questions: Sequence[Question], queue: BatchQueue, drawn: Sequence[int]) -> Answers:
        """As `Engines.ask`."""
        alone = deque([index] for index in drawn)
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
                hand_out()  # first: who is asked works on while the caller writes
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
                f"a process that asks the model has ended ({_how(process.exitcode)}); the answers so far are kept: "
                "run the same command again to go on"
            ) from error
        if failure is not None:
            raise SocratesError(failure)
        return answer


def open_engines(settings: EngineSettings, processes: int | None) -> LocalEngine | EngineProcesses:
    """Load a model once or several times.

    Args:
        settings: of the model, and of how it is asked.
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
        return LocalEngine(settings)
    threads = max(1, torch.get_num_threads() // count)
    return EngineProcesses(settings, count, threads, [f"cuda:{n}" if gpus else None for n in range(count)])


def _serve(connection: Connection, settings: EngineSettings, device: str | None, threads: int) -> None:
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
            engine = settings.make(device)
            connection.send((None, _ready(engine)))
            while True:
                questions, budget_tokens = connection.recv()
                engine.budget.tokens = min(engine.budget.tokens, budget_tokens)
                _, results = attempt(engine.ask, questions)
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
    """Also while a model is loading, or a batch is asked: a new run needs the memory."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _ready(engine: Engine) -> Ready:
    return Ready(engine.budget.tokens, engine.overhead, engine.about)


def _how(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = str(-exitcode)
    return f"signal {name}" + (": perhaps this machine has too little memory" if name == "SIGKILL" else "")
