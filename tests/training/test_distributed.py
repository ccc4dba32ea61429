"""What the processes of a run do together: real ones, which talk over gloo."""

import pytest
from processes import free_port, start_loaded

pytestmark = pytest.mark.slow
SHARES = """
import os, sys
from pathlib import Path
import torch.distributed as dist
from socrates.training import distributed as ranks
from socrates.errors import run_entry_point

def main():
    ranks.time.sleep = lambda seconds: None
    dist.init_process_group("gloo")
    try:
        ranks.check_shared(Path(sys.argv[1]), sys.argv[2])
        print("shared")
        dist.barrier()
    finally:
        if dist.is_initialized():  # left to the end of the process gloo's threads may abort it
            dist.destroy_process_group()

run_entry_point(main)
"""


def check_shared(tmp_path, *folders, data=("rows", "rows")):
    """One rank a folder of its own; returns (status, stdout, stderr) of each."""
    program = tmp_path.with_name(f"{tmp_path.name}-shares.py")
    program.write_text(SHARES)
    port, started = str(free_port()), []
    for rank, folder in enumerate(folders):
        own = {"RANK": str(rank), "WORLD_SIZE": str(len(folders)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started.append(start_loaded(program, folder, data[rank], cwd=tmp_path, **own))
    return [(done.returncode, done.stdout, done.stderr) for done in (finish() for finish in started)]


def assert_all_refuse(results, *parts):
    """Every rank leaves with 2, and one of them says why."""
    assert [status for status, _, _ in results] == [2] * len(results), results
    assert not any("shared" in out or "Traceback" in told for _, out, told in results), results
    assert [told.count("error: ") for _, _, told in results] == [1] + [0] * (len(results) - 1), results
    for part in parts:
        assert part in results[0][2], results


def test_ranks_that_share_a_folder_and_its_data_go_on_and_leave_no_mark(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".rank-0-of-a-killed-run").touch()
    for status, out, told in check_shared(tmp_path, "run", "run"):
        assert (status, out) == (0, "shared\n"), told
    assert not list((tmp_path / "run").iterdir())


def test_ranks_with_folders_of_their_own_all_refuse(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    told = check_shared(tmp_path, "one", "two")
    assert_all_refuse(told, "rank 1 on ", "two is another folder than rank 0's", "put output_dir on a file system")
    told = check_shared(tmp_path, "one", "absent")
    assert_all_refuse(told, "rank 1 on ", "absent is not there", "put output_dir on a file system")
    assert not [path for path in tmp_path.rglob("*") if path.name not in ("one", "two")]


def test_ranks_with_other_data_all_refuse(tmp_path):
    told = check_shared(tmp_path, "run", "run", data=("tokenized-a", "tokenized-b"))
    assert_all_refuse(told, "rank 1 on ", "the rows are tokenized-b, not tokenized-a", "send them there again")
    assert not list((tmp_path / "run").iterdir())


def test_a_folder_that_rank_zero_cannot_write_is_told_as_that(tmp_path):
    (tmp_path / "file").touch()
    told = check_shared(tmp_path, "file/run", "file/run")
    assert_all_refuse(told, "file/run: rank 0 on ", "cannot write there: ", "or change output_dir")
