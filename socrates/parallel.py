"""One process pool: a function in each worker, and many tasks for them.

Workers end at once when the parent does, also when it is killed, and when it wants no more: what they write, they must
write complete or not at all. Ctrl+C reaches the parent alone. A worker that is killed, also while it sends, is an
error: the workers of concurrent.futures share one pipe, and one killed in a message leaves the parent waiting for good.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from socrates.errors import SocratesError

_PATIENCE = 5.0  # seconds for a worker that has nothing left to do


@contextmanager
def process_pool(functions: Sequence[Callable[[Any], Any]]) -> Iterator[Callable[[Any], Future[Any]]]:
    """Workers, each behind a thread of this process that takes its results while the caller does something else.

    Args:
        functions: one a worker, which can be pickled and may remember things from task to task. As many tasks as there
            are workers, submitted at once, go to one each.

    Yields:
        What submits a task. The future raises the SocratesError that the function raised, a RuntimeError that shows any
        other error, or a SocratesError where the worker was killed (by a lack of memory, mostly).
    """
    workers: list[_Worker] = []
    idle: SimpleQueue[_Worker] = SimpleQueue()
    threads = ThreadPoolExecutor(len(functions), "worker")

    def do(task: Any) -> Any:
        worker = idle.get()
        try:
            return worker.do(task)
        finally:
            idle.put(worker)  # a dead one too: it fails again, where nothing would be waited for without end

    try:
        resource_tracker.ensure_running()  # here: when it is started, it lets interrupts through again
        for function in functions:
            workers.append(_Worker(function))
            idle.put(workers[-1])
        yield lambda task: threads.submit(do, task)
        for worker in workers:
            worker.connection.close()  # they leave by themselves
            worker.process.join(_PATIENCE)
    finally:  # an error, Ctrl-C, or the caller wants no more
        for worker in workers:
            worker.process.kill()
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.process.join()
            worker.process.close()
            worker.connection.close()


class _Worker:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        # spawned, not forked: libraries may have threads already, and a fork would inherit locks
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        # Ctrl-C waits, and the worker never sees it: it would end with a traceback
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with theirs:
                self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def do(self, task: Any) -> Any:
        try:
            self.connection.send(task)
            value, error = self.connection.recv()
        except (EOFError, ConnectionError) as gone:
            self.process.join()
            status = self.process.exitcode or 0
            how = f"was killed (signal {-status})" if status < 0 else f"ended by itself (status {status})"
            raise SocratesError(
                f"a worker process {how}, for lack of memory perhaps; run the same command again, and if that happens "
                "again with fewer processes (--processes 1)"
            ) from gone
        if error is not None:
            raise error
        return value


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says what to do
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):
        while True:
            task = connection.recv()
            try:
                reply = function(task), None
            except SocratesError as error:
                reply = None, SocratesError(str(error))
            except BaseException:
                reply = None, RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
            connection.send(reply)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
