"""One process pool: a function that is sent once to each worker, and many tasks for it.

Covers: workers end at once when the parent does, also when it is killed, and when it wants no more; Ctrl+C reaches the
parent alone; an error of a task is raised where its result is taken; a worker that is killed, also while it sends, is
an error. That is why concurrent.futures' pool is not taken: its workers share one pipe, and one that is killed in the
middle of a message leaves the parent waiting without end.
Does not cover: tasks that must not be ended in the middle. What they write, they must write complete or not at all.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from socrates.errors import SocratesError

_PATIENCE = 5.0  # seconds for a worker that has nothing left to do


@contextmanager
def process_pool(function: Callable[[Any], Any], count: int) -> Iterator[Callable[[Any], Future[Any]]]:
    """Workers, each behind a thread of this process that takes its results while the caller does something else.

    Args:
        function: of a module, a `partial` of one, a method or an object: it is sent to each worker once, with what it
            is bound to, and may remember things from task to task.
        count: of workers; as many tasks as that, submitted at once, go to one each.

    Yields:
        What submits a task. The future raises what ``function`` raised, or a SocratesError where its worker was killed
        (by a lack of memory, mostly).
    """
    sent = pickle.dumps(function)
    workers: list[_Worker] = []
    idle: SimpleQueue[_Worker] = SimpleQueue()
    threads = ThreadPoolExecutor(count, "worker")

    def do(task: Any) -> Any:
        worker = idle.get()
        try:
            return worker.do(task)
        finally:
            idle.put(worker)  # a dead one too: it fails again, where nothing would be waited for without end

    try:
        resource_tracker.ensure_running()  # here: when it is started, it lets interrupts through again
        for _ in range(count):
            workers.append(_Worker.start(sent, len(workers)))
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


@dataclass(frozen=True)
class _Worker:
    process: Any
    connection: Connection

    @staticmethod
    def start(function: bytes, number: int) -> _Worker:
        # spawned, not forked: libraries may have threads already, and a fork would inherit locks
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, function, number), daemon=True)
        # Ctrl-C waits, and the worker never sees it: it would end with a traceback
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with theirs:
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return _Worker(process, ours)

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


# --- in a worker ---------------------------------------------------------------------------------------------------

_number = 0


def worker_number() -> int:
    """Of the worker that calls it, from 0."""
    return _number


def _serve(connection: Connection, sent: bytes, number: int) -> None:
    global _number
    _number = number
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says what to do
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    threading.Thread(target=_end_with_parent, daemon=True).start()
    function = None
    try:
        while True:
            task = connection.recv()
            try:
                function = pickle.loads(sent) if function is None else function
                reply = pickle.dumps((function(task), None), pickle.HIGHEST_PROTOCOL)
            except BaseException as error:
                reply = pickle.dumps((None, _sendable(error)))
            connection.send_bytes(reply)
    except (EOFError, ConnectionError):
        return


def _sendable(error: BaseException) -> BaseException:
    where = f"in a worker process:\n{traceback.format_exc()}"
    if not isinstance(error, SocratesError):  # which says all in its message
        error.add_note(where)
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(where)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
