"""A model in this process, or in several, one a GPU: a batch goes to the first process that is free.

Covers: memory that runs out in one process halves the budget of all; whatever ends this process ends the others.
Does not cover: one model over several GPUs, and several machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socrates.errors import SocratesError
from socrates.inference.batching import BatchQueue
from socrates.parallel import process_pool

if TYPE_CHECKING:
    from socrates.inference.engine import AnswerDistribution, Engine, Question


def load_engine(
    model: str, *, base_model: str | None, revision: str | None, device: str | None = None, **options: Any
) -> Engine:
    """Load a model and make an engine of it (``options``: as of `Engine`); raises what `load_model` and that raise."""
    from socrates.inference.engine import Engine, unless_out_of_memory
    from socrates.model.load import load_model

    loaded = load_model(model, device=device, revision=revision, base_model=base_model)
    engine = unless_out_of_memory(lambda made: Engine(made, **options), loaded)
    if engine is None:
        raise SocratesError(
            f"{model}: memory holds the model, but not one question; use a GPU with more memory, or end what else uses "
            "it"
        )
    return engine


@dataclass
class _Worker:
    """What each process of a pool does: loads its engine when it is given its first work, and answers."""

    load: Callable[..., Engine]
    device: str | None
    threads: int
    engine: Engine | None = None

    def __call__(self, work: tuple[list[Question], int] | None) -> Any:
        """The engine's budget and what it is, where there is nothing to answer; else as of `Engine.answer`."""
        if self.engine is None:
            import torch

            from socrates.model.load import quiet_libraries

            quiet_libraries(bars=False)
            torch.set_num_threads(self.threads)
            self.engine = self.load(device=self.device)
        if work is None:
            return self.engine.budget, self.engine.about
        questions, budget = work
        self.engine.budget = min(self.engine.budget, budget)
        return self.engine.answer(questions)


class EnginePool:
    """The model in several processes, used like an `Engine`.

    Attributes:
        budget: as of `Engine`, the least of all.
        about: as of `Engine`.
    """

    def __init__(self, submit: Callable[..., Future], processes: int) -> None:
        """Wait until the processes of a pool have loaded the model; raises what `load_engine` raises."""
        self._submit, self._processes = submit, processes
        ready = [submit(None) for _ in range(processes)]
        budgets, (self.about, *_) = zip(*(future.result() for future in ready), strict=True)
        self.budget = min(budgets)

    def answer_all(
        self, questions: Sequence[Question], lengths: Mapping[int, int], sampled: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], list[AnswerDistribution]]]:
        """As `Engine.answer_all`."""
        queue = BatchQueue(lengths, self.budget, alone=sampled)
        running: dict[Future, list[int]] = {}

        def hand_out() -> None:
            while len(running) < self._processes and (batch := queue.take()):
                running[self._submit(([questions[index] for index in batch], queue.budget))] = batch

        hand_out()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                results, batch = future.result(), running.pop(future)
                if results is None:
                    queue.put_back(batch)
                hand_out()  # first: the process works on while the caller writes
                if results is not None:
                    yield batch, results


@contextmanager
def open_engine(load: Callable[..., Engine], processes: int | None) -> Iterator[Engine | EnginePool]:
    """Load a model, in this process or in several.

    Args:
        load: makes the engine of a process, on ``device``; can be pickled.
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
    threads = max(1, torch.get_num_threads() // count)
    workers = [_Worker(load, f"cuda:{number}" if gpus else None, threads) for number in range(count)]
    with process_pool(workers) as submit:
        yield EnginePool(submit, count)
