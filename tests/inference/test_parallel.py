"""Several processes that run one model: memory that runs out in some, one that ends while it sends, one left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from processes import PATIENCE, ROOT, environment, wait_for

POOL = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
# What a pool asks of the libraries, whose imports would take all of the time.
sys.modules["torch"] = SimpleNamespace(
    cuda=SimpleNamespace(device_count=lambda: 0), get_num_threads=lambda: 1, set_num_threads=lambda threads: None
)
sys.modules["socrates.model.load"] = SimpleNamespace(quiet_libraries=lambda bars: None)
from socrates.errors import run_entry_point
from socrates.inference.parallel import open_engine

def answer(questions):
    if len(questions) * 10 > HOLDS:
        return None
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
        for batch, results in pool.answer_all(questions, dict.fromkeys(range(len(questions)), 10), []):
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


def test_memory_that_runs_out_in_all_at_once_costs_no_question(tmp_path):
    """Each process holds 90 tokens, and all meet a batch of 200 first; then it is halved for all of them."""
    done, said = start_pool(tmp_path, 90, "range(100)").communicate(timeout=PATIENCE)
    assert done.splitlines() == ["loading"] * 3 + ["all answered"], said
    assert said.splitlines() == [f"out of memory with {n} tokens at once; going on with {n // 2}" for n in (200, 100)]


def test_a_question_that_fits_into_no_process_is_an_error_that_says_so(tmp_path):
    process = start_pool(tmp_path, 5, "range(2)")
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "Traceback" not in said, said
    assert "out of memory with one question of 10 tokens" in said, said


def test_whatever_ends_the_first_process_ends_the_others_at_once(tmp_path):
    """Also while they load a model, which takes minutes for a large one: the next run needs the memory."""
    process = start_pool(tmp_path, None, "[]")
    assert [process.stdout.readline() for _ in range(3)] == ["loading\n"] * 3
    process.kill()
    process.communicate(timeout=PATIENCE)  # ends once those that it started have ended too


def test_an_interrupt_while_they_start_is_one_exception_and_not_theirs(tmp_path):
    process = start_pool(tmp_path, None, "[]")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def workers():
        assert process.poll() is None, process.communicate()
        return [int(pid) for pid in children.read_text().split() if b"spawn_main" in command_of(pid)]

    wait_for(lambda: len(workers()) == 3)
    for _ in range(20):  # all the while that they import
        time.sleep(0.02)
        for pid in workers():
            os.kill(pid, signal.SIGINT)
    assert all("loading" in process.stdout.readline() for _ in range(3))
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in said, said


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
