"""Results in order from several processes, and that nothing of them is left, whatever ends them."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from processes import PATIENCE, ROOT, wait_for

from socrates.errors import SocratesError
from socrates.parallel import IN_FLIGHT, map_in_order


def children(pid, program=b"spawn_main"):
    """The workers of a process: those that live (the resource tracker, which stays with its parent, aside)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z" and program in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def blocks_interrupts(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) & 1 << signal.SIGINT - 1 for line in lines if line.startswith("SigBlk"))


def square(number):
    return number * number


def later_is_faster(number):
    time.sleep(0.05 if number % 4 == 0 else 0)
    return number, os.getpid()


def fails_at(bad, number):
    if number == bad:
        raise SocratesError(f"row {number} is bad")
    return number


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("cannot be sent")


def raises_odd(number):
    raise Odd(number, number)


def touch(folder, number):
    (folder / str(number)).touch()
    return number


def die_at(bad, number):
    if number == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def settings(number):
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN, os.environ["TOKENIZERS_PARALLELISM"], os.getpid()


class Remembers:
    """A function that is heavy to send and remembers its tasks."""

    def __init__(self, log):
        self.log, self.seen = log, []

    def __setstate__(self, state):
        self.__dict__.update(state)
        with self.log.open("a") as file:
            file.write("arrived\n")

    def work(self, number):
        self.seen.append(number)
        return os.getpid(), list(self.seen)


@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_the_order_of_the_tasks(processes):
    assert list(map_in_order(square, range(50), processes)) == [n * n for n in range(50)]
    assert list(map_in_order(square, [], processes)) == []
    found = list(map_in_order(later_is_faster, range(20), processes))
    assert [number for number, _ in found] == list(range(20))
    assert len({pid for _, pid in found} - {os.getpid()}) == (0 if processes == 1 else 3)
    assert not children(os.getpid())


def test_the_function_is_sent_once_to_each_worker_and_keeps_its_memory(tmp_path):
    found = list(map_in_order(Remembers(tmp_path / "log").work, range(12), 2))
    assert (tmp_path / "log").read_text() == "arrived\n" * 2
    longest = dict(found)  # the last of each
    assert sorted(number for seen in longest.values() for number in seen) == list(range(12))


def test_a_worker_leaves_interrupts_to_its_parent_and_threads_to_the_other_workers():
    assert {found[:2] for found in map_in_order(settings, range(6), 2)} == {(True, "false")}


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_raised_in_its_turn(processes):
    results = map_in_order(partial(fails_at, 7), range(20), processes)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(SocratesError, match=r"^row 7 is bad$"):
        next(results)
    assert list(results) == [] and not children(os.getpid())


@pytest.mark.slow
def test_an_error_that_cannot_be_sent_is_told_all_the_same():
    with pytest.raises(RuntimeError, match="cannot be sent"):
        list(map_in_order(raises_odd, range(4), 2))


@pytest.mark.parametrize("bad", [0, pytest.param(9, marks=pytest.mark.slow)])
def test_a_killed_worker_is_told_with_what_to_do(bad):
    with pytest.raises(SocratesError, match=r"was killed \(signal 9\), for lack of memory perhaps.*--processes 1"):
        list(map_in_order(partial(die_at, bad), range(10), 2))
    assert not children(os.getpid())


def send_and_die(number):
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(2**30)


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_sends_is_told():
    with pytest.raises(SocratesError, match="was killed"):
        list(map_in_order(send_and_die, range(4), 2))


@pytest.mark.slow
def test_only_a_few_tasks_are_ahead_of_a_slow_caller(tmp_path):
    def done():
        return len(list(tmp_path.iterdir()))

    results = map_in_order(partial(touch, tmp_path), range(100), 2)
    for taken in range(1, 6):
        next(results)
        ahead = taken + IN_FLIGHT * 2 - 1
        wait_for(lambda ahead=ahead: done() == ahead)
        time.sleep(0.1)  # so that one too many would show; without it the test would pass all the same
        assert done() == ahead
    results.close()


def test_a_caller_who_wants_no_more_leaves_no_process():
    results = map_in_order(partial(sleep_from, 3), range(10), 2)
    assert next(results) == 0
    results.close()  # they would sleep for longer than any test may take
    assert not children(os.getpid())


def sleep_from(first, number):
    if number >= first:
        time.sleep(3600)
    return number


# --- a program of its own, which is ended from outside -----------------------------------------------------------

PROGRAM = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from socrates.errors import run_entry_point
    from socrates.parallel import map_in_order

    def work(number):
        Path(sys.argv[1], str(number)).touch()
        time.sleep(3600)

    def main():
        list(map_in_order(work, range(10), 2))

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


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_workers_end_with_a_parent_that_is_killed(program, how):
    process, begun = program
    wait_for(lambda: len(list(begun.iterdir())) == 2)
    workers = children(process.pid)
    assert len(workers) == 2
    process.send_signal(how)
    process.wait()
    wait_for(lambda: not any(map(is_alive, workers)))


@pytest.mark.parametrize("at_work", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_interrupt_of_the_whole_group_ends_it_with_130_and_no_traceback(program, at_work):
    process, begun = program
    wait_for(lambda: len(children(process.pid)) == 2)  # which have hardly begun to load Python
    if at_work:
        wait_for(lambda: len(list(begun.iterdir())) == 2)
    workers = children(process.pid)
    assert all(map(blocks_interrupts, workers)), "from its first moment, when Python would print a traceback"
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")
    assert not any(map(is_alive, workers))
    with pytest.raises(ProcessLookupError):  # nobody of the group is left, the resource tracker neither
        wait_for(lambda: os.killpg(process.pid, 0))
