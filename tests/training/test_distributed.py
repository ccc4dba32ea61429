"""What the processes of a run do together: real ones, which talk over gloo."""

import pytest
from processes import free_port, start_loaded

pytestmark = pytest.mark.slow
PROVES = """
import sys
from pathlib import Path
import torch.distributed as dist
from socrates.training import distributed as ranks
from socrates.errors import run_entry_point

def main():
    ranks.time.sleep = lambda seconds: None
    dist.init_process_group("gloo")
    folder, data = Path(sys.argv[1]), sys.argv[2]
    try:
        if data == "files":
            (folder / f"shard-{ranks.rank()}").write_text("x" * 9)
            ranks.wait_for_files(folder)
        else:
            ranks.check_shared(folder, data)
        print("shared")
        ranks.end_process_group()
    finally:
        if dist.is_initialized():  # left to the end of the process gloo's threads may abort it
            dist.destroy_process_group()

run_entry_point(main)
"""


def prove(tmp_path, *folders, data=("rows", "rows")):
    """One rank a folder of its own; returns (status, stdout, stderr) of each."""
    program = tmp_path.with_name(f"{tmp_path.name}-proves.py")
    program.write_text(PROVES)
    port, started = str(free_port()), []
    for rank, folder in enumerate(folders):
        own = {"RANK": str(rank), "WORLD_SIZE": str(len(folders)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started.append(start_loaded(program, folder, data[rank], cwd=tmp_path, **own))
    return [(done.returncode, done.stdout, done.stderr) for done in (finish() for finish in started)]


@pytest.mark.parametrize("data", ["rows", "files"])
def test_ranks_that_share_a_folder_and_its_data_go_on_and_leave_no_mark(tmp_path, data):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".rank-0-of-a-killed-run").touch()
    for status, out, told in prove(tmp_path, "run", "run", data=(data, data)):
        assert (status, out) == (0, "shared\n"), told
    assert data == "files" or not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    "folders, data, message",
    [
        (("one", "two"), ("rows", "rows"), "two is another folder than rank 0's"),
        (("one", "one"), ("tokenized-a", "tokenized-b"), "the rows are tokenized-b, not tokenized-a"),
        (("file/run", "file/run"), ("rows", "rows"), "file"),
        (("one", "two"), ("files", "files"), "one: what another rank has written does not show where rank 0 runs"),
    ],
)
def test_ranks_that_do_not_share_all_refuse_and_one_says_why(tmp_path, folders, data, message):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    results = prove(tmp_path, *folders, data=data)
    assert [status for status, _, _ in results] == [2, 2], results
    assert not any("shared" in out or "Traceback" in told for _, out, told in results), results
    assert [told.count("error: ") for _, _, told in results] == [1, 0] and message in results[0][2], results
    assert not list(tmp_path.rglob(".rank-0-*"))
