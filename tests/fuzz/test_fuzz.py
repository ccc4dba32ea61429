"""A hundred mutated inputs for each reader of untrusted files; `run.sh` plays more."""

import subprocess

import pytest
from processes import PATIENCE, ROOT


@pytest.mark.slow
def test_no_reader_falls_hangs_or_decides_on_mutated_files():
    command = [ROOT / "tests" / "fuzz" / "run.sh", "0", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
