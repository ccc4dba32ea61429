"""Several processes that run one model: memory that runs out, errors, and that nothing is left, whatever ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from processes import PATIENCE, ROOT, assert_refused, environment, wait_for

POOL = """
import os, signal, sys, time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
# What a pool asks of the libraries, whose imports would take all of the time.
sys.modules["torch"] = SimpleNamespace(
    cuda=SimpleNamespace(device_count=lambda: 0), get_num_threads=lambda: 1, set_num_threads=lambda threads: None
)
sys.modules["socrates.model.load"] = SimpleNamespace(quiet_libraries=lambda bars: None)
from socrates.errors import SocratesError, run_entry_point
from socrates.inference.parallel import open_engine

def send_half(self, message, send=Connection._send):
    send(self, message[: len(message) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

def answer(questions):
    if len(questions) * 10 > HOLDS:
        return None
    if "die" in questions:
        os.kill(os.getpid(), signal.SIGKILL)
    if "die while sending" in questions:
        Connection._send = send_half
    if "refuse" in questions:
        raise SocratesError("row 7 is bad")
    if "fail" in questions:
        return 1 / 0
    return [f"answer {n}" for n in questions]

def load(device):
    print("loading", flush=True)
    (HERE / str(os.getpid())).touch()
    while HOLDS is None or len([*HERE.glob("[0-9]*")]) < 3:
        time.sleep(0.01)
    return SimpleNamespace(answer=answer, budget=200, about={})

HERE, HOLDS = Path(__file__).parent, eval(sys.argv[1])

def main():
    questions = eval(sys.argv[2])
    answered = {}
    with open_engine(load, 3) as pool:
        for batch, results in pool.answer_all(questions, dict.fromkeys(range(len(questions)), 10)):
            assert not answered.keys() & set(batch)
            answered |= dict(zip(batch, results, strict=True))
    assert answered == {n: f"answer {question}" for n, question in enumerate(questions)}
    print("all answered")
    return 0

if __name__ == "__main__":
    run_entry_point(main)
"""


def start_pool(folder: Path, holds: int | None, questions: str) -> subprocess.Popen:
    """Three processes whose memory holds some tokens; None: that take long to load their model."""
    (folder / "pool.py").write_text(POOL)
    return subprocess.Popen(
        [sys.executable, folder / "pool.py", str(holds), questions],
        env=environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end_of(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """Wait for its end and that of all that it started, which share its output."""
    told = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess([], process.returncode, *told)


def test_memory_that_runs_out_in_all_at_once_costs_no_question(tmp_path):
    """Each process holds 90 tokens, and all meet a batch of 200 first; then it is halved for all of them."""
    done = end_of(start_pool(tmp_path, 90, "range(100)"))
    assert done.stdout.splitlines() == ["loading"] * 3 + ["all answered"], done.stderr
    halved = [f"out of memory with {n} tokens at once; going on with {n // 2}" for n in (200, 100)]
    assert done.stderr.splitlines() == halved


@pytest.mark.parametrize(
    "holds, questions, message",
    [
        (5, "range(2)", "out of memory with one question of 10 tokens"),
        (90, "[*range(50), 'refuse']", "error: row 7 is bad"),
        (90, "['die']", "was killed (signal 9), for lack of memory perhaps"),
        (90, "['die while sending']", "a worker process was killed (signal 9)"),
    ],
)
def test_what_ends_in_one_process_is_an_error_that_says_so(tmp_path, holds, questions, message):
    assert_refused(end_of(start_pool(tmp_path, holds, questions)), message)


def test_a_mistake_of_the_program_shows_where_it_was_made(tmp_path):
    done = end_of(start_pool(tmp_path, 90, "['fail']"))
    assert done.returncode == 2 and "in a worker process:" in done.stderr and "ZeroDivisionError" in done.stderr


def test_whatever_ends_the_first_process_ends_the_others_at_once(tmp_path):
    """Also while they load a model, which takes minutes for a large one: the next run needs the memory."""
    process = start_pool(tmp_path, None, "[]")
    assert [process.stdout.readline() for _ in range(3)] == ["loading\n"] * 3
    process.kill()
    end_of(process)


@pytest.mark.parametrize("loading", [False, True])
def test_an_interrupt_of_the_whole_group_ends_it_with_130_and_no_traceback(tmp_path, loading):
    process = start_pool(tmp_path, None, "[]")
    wait_for(lambda: len(workers_of(process)) == 3)  # which have hardly begun to load Python
    assert all(map(blocks_interrupts, workers_of(process))), "from its first moment: Python would print a traceback"
    if loading:
        assert [process.stdout.readline() for _ in range(3)] == ["loading\n"] * 3
    os.killpg(process.pid, signal.SIGINT)
    done = end_of(process)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    """Its processes that live, but for the resource tracker."""
    return [
        one for one in psutil.Process(process.pid).children() if any("spawn_main" in word for word in one.cmdline())
    ]


def blocks_interrupts(process: psutil.Process) -> bool:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) & 1 << signal.SIGINT - 1 for line in lines if line.startswith("SigBlk"))
