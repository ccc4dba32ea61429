"""Several processes that run one model: memory that runs out in some, one that ends while it sends, one left behind."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path

import pytest
from processes import PATIENCE, ROOT, environment, wait_for

from socrates.errors import SocratesError
from socrates.inference.batching import BatchQueue, Budget
from socrates.inference.parallel import EnginePool


class Ended:
    """Stands for a process that was killed."""

    exitcode = -signal.SIGKILL

    def join(self, timeout=None):
        pass


def engines_of(*workers):
    """EnginePool whose processes are threads, each a function of its connection."""
    engines = EnginePool.__new__(EnginePool)
    engines._processes = {}
    for worker in workers:
        ours, theirs = Pipe()
        threading.Thread(target=until_nobody_listens, args=(worker, theirs), daemon=True).start()
        engines._processes[ours] = Ended()
    return engines


def until_nobody_listens(worker, connection):
    with suppress(EOFError, OSError):
        worker(connection)


def test_memory_that_runs_out_in_all_at_once_costs_no_question(capsys):
    """Three processes hold 90 tokens each, and all meet a batch of 200 first; then it was halved for all of them."""
    together = threading.Barrier(3)
    budgets = []

    def serve(connection):
        first = True
        while True:
            questions, budget = connection.recv()
            budgets.append(budget)
            if first:
                together.wait(PATIENCE)
            first = False
            connection.send((None, None if len(questions) * 10 > 90 else [f"answer {n}" for n in questions]))

    lengths = dict.fromkeys(range(100), 10)
    queue = BatchQueue(lengths, Budget(200))
    answered = {}
    for batch, results in engines_of(serve, serve, serve).answer_all(range(100), queue, []):
        assert not answered.keys() & set(batch)
        answered |= dict(zip(batch, results, strict=True))
    assert answered == {n: f"answer {n}" for n in range(100)}
    said = capsys.readouterr().err.splitlines()
    assert said == [f"out of memory with {n} tokens at once; going on with {n // 2}" for n in (200, 100)]
    assert budgets[:3] == [200, 200, 200] and budgets[-1] == 50


def test_one_question_that_no_process_holds_is_an_error_that_says_so():
    def serve(connection):
        while connection.recv():
            connection.send((None, None))

    queue = BatchQueue({0: 10, 1: 10}, Budget(20))
    with pytest.raises(SocratesError, match="out of memory with one question of 10 tokens"):
        list(engines_of(serve, serve).answer_all(range(2), queue, []))


def test_a_process_that_is_killed_while_it_sends_is_told():
    def serve(connection):
        connection.recv()
        os.write(connection.fileno(), struct.pack("!i", 1000) + b"a part")
        connection.close()

    with pytest.raises(SocratesError, match=r"has ended .signal SIGKILL.*run the same command again"):
        list(engines_of(serve).answer_all([0], BatchQueue({0: 10}, Budget(20)), []))


LOADING = """
import sys, time
from socrates.inference.parallel import EnginePool

def load(device):
    print("loading", flush=True)
    time.sleep(3600)

if __name__ == "__main__":
    EnginePool(load, [None, None], 1)
"""


def start_loading(folder: Path) -> subprocess.Popen:
    """Two processes that take long to load their model."""
    (folder / "loading.py").write_text(LOADING)
    process = subprocess.Popen(
        [sys.executable, folder / "loading.py"],
        env=environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_first_process_ends_the_others_at_once(tmp_path, number):
    """Also while they load a model, which takes minutes for a large one: the next run needs the memory."""
    process = start_loading(tmp_path)
    assert [process.stdout.readline() for _ in range(2)] == ["loading\n"] * 2
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)  # ends once those that it started have ended too


@pytest.mark.slow
def test_an_interrupt_while_they_start_is_one_exception_and_not_theirs(tmp_path):
    process = start_loading(tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def workers():
        assert process.poll() is None, process.communicate()
        return [int(pid) for pid in children.read_text().split() if b"spawn_main" in command_of(pid)]

    wait_for(lambda: len(workers()) == 2)
    for _ in range(20):  # all the while that they import
        time.sleep(0.02)
        for pid in workers():
            os.kill(pid, signal.SIGINT)
    assert [process.stdout.readline() for _ in range(2)] == ["loading\n"] * 2
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert said.count("Traceback") == 1 and said.endswith("KeyboardInterrupt\n"), said


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
