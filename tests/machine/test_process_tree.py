"""Ranks among other processes."""

import subprocess
import sys

import psutil
from processes import PATIENCE, environment

from socrates.machine.process_tree import find_ranks


def test_a_ranks_workers_are_no_ranks():
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    rank = subprocess.Popen(
        [sys.executable, "-c", child],
        env=environment(LOCAL_RANK="0"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        rank.stdout.readline()
        me = psutil.Process()
        family = me.children(recursive=True)
        assert len([p for p in family if rank.pid in (p.pid, p.ppid())]) == 2
        assert [p.pid for p in find_ranks(family)] == [rank.pid]
    finally:
        rank.communicate(b"\n", timeout=PATIENCE)
