"""One process pool: workers that end with their parent, and a function over many tasks on them, in order.

Covers: workers end at once when the parent does, also when it is killed, and when it wants no more; Ctrl+C reaches the
parent alone; an error of a task is raised where its result is taken; a worker that is killed is an error.
Does not cover: tasks that must not be ended in the middle. What they write, they must write complete or not at all.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from socrates.errors import SocratesError

Task, Result = TypeVar("Task"), TypeVar("Result")
MOST = 8  # reading and writing one disk gains nothing from more
IN_FLIGHT = 2  # tasks for each process that are sent, worked on, or done and not yet taken


def default_processes() -> int:
    """The cores that this process may use, `MOST` at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST)


def map_in_order(
    function: Callable[[Task], Result], tasks: Sequence[Task], processes: int | None = None
) -> Iterator[Result]:
    """``function`` of each task, in order; in this process where one is enough.

    Args:
        function: of a module, a `partial` of one, or a method: it is sent to each worker once, with what it is bound
            to, and may remember things from task to task.
        tasks: are sent to the workers too.
        processes: at most; None takes `default_processes`.

    Raises:
        SocratesError: what ``function`` raised, or that a worker was killed (by a lack of memory, mostly).
    """
    count = min(processes or default_processes(), len(tasks))
    if count < 2:
        yield from map(function, tasks)
        return
    with process_pool(count, _remember, function) as submit:
        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            waiting.append(submit(_do, task))
            if len(waiting) == IN_FLIGHT * count:
                yield result_of(waiting.popleft())
        while waiting:
            yield result_of(waiting.popleft())


@contextmanager
def process_pool(count: int, prepare: Callable[..., None], *arguments: Any) -> Iterator[Callable[..., Future]]:
    """Up to ``count`` workers; gives ``submit(function, *arguments)``. At the end of the block they are killed.

    Args:
        count: one is started where a task comes and none is idle.
        prepare: is called first in each worker.
        arguments: of ``prepare``.
    """
    # spawned, not forked: libraries may have threads already, and a fork would inherit locks
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(count, context, _prepare, (prepare, arguments))
    resource_tracker.ensure_running()  # here: when it is started, it lets interrupts through again

    def submit(function: Callable[..., Any], *arguments: Any) -> Future:
        # A worker that is started here never sees Ctrl+C: it would end with a traceback.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return executor.submit(function, *arguments)
        except BrokenProcessPool as error:
            raise _killed() from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield submit
    finally:
        for worker in multiprocessing.active_children():
            worker.kill()
        executor.shutdown(cancel_futures=True)


def result_of(future: Future[Result]) -> Result:
    """What a task gave; SocratesError where its worker was killed, and whatever the task raised."""
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _killed() from error


def _killed() -> SocratesError:
    return SocratesError(
        "a worker process was killed, for lack of memory perhaps; run the same command again, and if that happens "
        "again with fewer processes (--processes 1)"
    )


# --- in a worker ---------------------------------------------------------------------------------------------------

_function: Callable[[Any], Any]


def _prepare(prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare(*arguments)


def _end_with_parent() -> None:
    """Also in the middle of a task: the next run needs the memory."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _remember(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function


def _do(task: Any) -> Any:
    return _function(task)
