"""Ranks among other processes."""

import subprocess
import sys

import psutil
from processes import PATIENCE, environment

from socrates.machine.process_tree import MARK, find_ranks


def test_a_ranks_workers_are_no_ranks():
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    rank = subprocess.Popen(
        [sys.executable, "-c", child],
        env=environment(**{"LOCAL_RANK": "0", MARK: "of this test"}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        rank.stdout.readline()
        assert len(psutil.Process(rank.pid).children()) == 1
        assert [p.pid for p in find_ranks("of this test")] == [rank.pid]
    finally:
        rank.communicate(b"\n", timeout=PATIENCE)
