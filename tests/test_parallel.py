"""Results from several processes, and that nothing of them is left, whatever ends them."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from processes import PATIENCE, ROOT, wait_for

from socrates.errors import SocratesError
from socrates.parallel import process_pool


def children(pid):
    """The workers of a process that live (the resource tracker, which stays with its parent, aside)."""
    found = [one for one in psutil.Process(pid).children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in found if any("spawn_main" in word for word in one.cmdline())]


def is_alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def blocks_interrupts(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) & 1 << signal.SIGINT - 1 for line in lines if line.startswith("SigBlk"))


def results_of(function, tasks, processes=2):
    with process_pool([function] * processes) as submit:
        return [future.result() for future in [submit(task) for task in tasks]]


def fails_at(bad, number):
    if number == bad:
        raise SocratesError(f"row {number} is bad")
    return number + 0


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def send_and_die(number):
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(2**30)


class Remembers:
    """A function that remembers its tasks."""

    def __init__(self):
        self.seen = []

    def __call__(self, number):
        time.sleep(0.05 if number % 4 == 0 else 0)
        self.seen.append(number)
        return number, signal.getsignal(signal.SIGINT) == signal.SIG_IGN, os.getpid(), list(self.seen)


def test_each_worker_keeps_its_memory_and_leaves_interrupts_to_the_parent():
    numbers, ignore, pids, seen = zip(*results_of(Remembers(), range(20), 3), strict=True)
    assert numbers == tuple(range(20)) and all(ignore)
    last = dict(zip(pids, seen, strict=True))  # of each worker, when it had done all its tasks
    assert len(last) == 3 and os.getpid() not in last
    assert sorted(number for done in last.values() for number in done) == list(range(20))
    assert not children(os.getpid())


def test_an_error_is_raised_where_its_result_is_taken_and_the_pool_works_on():
    with process_pool([partial(fails_at, 7)] * 2) as submit:
        futures = [submit(number) for number in range(9)]
        with pytest.raises(SocratesError, match=r"^row 7 is bad$"):
            futures[7].result()
        with pytest.raises(RuntimeError, match=r"in a worker process:[\s\S]*TypeError"):
            submit(None).result()
        assert [futures[n].result() for n in (0, 8)] == [0, 8]
    assert not children(os.getpid())


@pytest.mark.parametrize("how", [die, pytest.param(send_and_die, marks=pytest.mark.slow)])
def test_a_worker_that_is_killed_also_while_it_sends_is_told_with_what_to_do(how):
    with pytest.raises(SocratesError, match=r"was killed \(signal 9\), for lack of memory perhaps.*--processes 1"):
        results_of(how, range(4))
    assert not children(os.getpid())


def test_a_caller_who_wants_no_more_leaves_no_process():
    with pytest.raises(ZeroDivisionError), process_pool([time.sleep] * 2) as submit:
        for seconds in (0, 3600, 3600, 3600):  # longer than any test may take
            submit(seconds)
        raise ZeroDivisionError
    assert not children(os.getpid())


# --- a program of its own, which is ended from outside -----------------------------------------------------------

PROGRAM = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from socrates.errors import run_entry_point
    from socrates.parallel import process_pool

    def work(number):
        Path(sys.argv[1], str(number)).touch()
        time.sleep(3600)

    def main():
        with process_pool([work] * 2) as submit:
            [future.result() for future in [submit(number) for number in range(10)]]

    if __name__ == "__main__":
        run_entry_point(main)
"""


@pytest.fixture
def program(tmp_path):
    """Start the program in a process group of its own; it is ended at the end of the test."""
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM).format(root=str(ROOT)))
    (tmp_path / "begun").mkdir()
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", tmp_path / "begun"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process, tmp_path / "begun"
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_workers_end_with_a_parent_that_is_killed(program):
    process, begun = program
    wait_for(lambda: len(list(begun.iterdir())) == 2)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(is_alive, workers)))


def test_an_interrupt_of_the_whole_group_ends_it_with_130_and_no_traceback(program):
    process, _ = program
    wait_for(lambda: len(children(process.pid)) == 2)  # which have hardly begun to load Python
    workers = children(process.pid)
    assert all(map(blocks_interrupts, workers)), "from its first moment, when Python would print a traceback"
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")
    assert not any(map(is_alive, workers))
    with pytest.raises(ProcessLookupError):  # nobody of the group is left, the resource tracker neither
        wait_for(lambda: os.killpg(process.pid, 0))
