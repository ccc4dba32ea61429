"""Files and locks on file systems that can do less than most: no fsync of a folder, no flock."""

import errno
import fcntl
import os
import stat
import subprocess
from types import SimpleNamespace

import pytest
from processes import ROOT, environment
from tiny import survey_model

from socrates.config import PromptSettings
from socrates.data.tokenize import ensure_tokenized
from socrates.errors import SocratesError
from socrates.files import NoLocks, lock_is_held, take_lock, write_json
from socrates.inference.journal import open_journal
from socrates.machine.background import start
from socrates.training.resume import lock_output


def failing(number, of=(True, False)):
    """A system call that fails with this error for folders (True), files (False), or both."""

    def call(file, *_):
        if stat.S_ISDIR(os.fstat(file if isinstance(file, int) else file.fileno()).st_mode) in of:
            raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_folder_that_cannot_be_flushed_is_passed_over_and_a_file_is_not(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number, [True]))
    write_json(tmp_path / "a.json", {})
    for call in (failing(number, [False]), failing(errno.EIO, [True])):
        monkeypatch.setattr(os, "fsync", call)
        with pytest.raises(SocratesError, match=r"b\.json: cannot write"):
            write_json(tmp_path / "b.json", {})


def tokenize(folder):
    (folder / "train.jsonl").write_text("{}\n")
    ensure_tokenized(folder / "train.jsonl", survey_model(1)[1], PromptSettings(), 100)


WRITERS = {
    "an evaluation": lambda folder: open_journal(folder, {}),
    "a training": lock_output,
    "a supervisor": lambda folder: start(SimpleNamespace(log="x.log", output_dir="x"), [], 0),
    "a fetch, or a preparation": lambda folder: take_lock(folder / "x.lock", "taken", waits=print),
    "tokenizing": tokenize,
}


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_where_nothing_keeps_a_second_process_out_the_disk_is_named(tmp_path, monkeypatch, write, number):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fcntl, "flock", failing(number))
    with pytest.raises(
        NoLocks, match=r"^\S+: the disk that this is on locks no files .*folder on another disk"
    ) as told:
        write(tmp_path)
    assert "\n" not in str(told.value)
    assert not [*tmp_path.rglob("*.lock"), *tmp_path.glob(".run/lock")] or write is tokenize
    (tmp_path / "old").write_text("process 1")
    assert lock_is_held(tmp_path / "old") is None
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(SocratesError, match=r"^\.run/lock: cannot write: Input/output error"):
        WRITERS["a supervisor"](tmp_path)


def test_shell_scripts_go_on_or_say_that_they_cannot_tell(tmp_path):
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / ".training.lock").write_text("process 1\n")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    script = """source scripts/lib/common.sh; source scripts/lib/machine.sh; SOCRATES_ROOT=$1; cd "$1"
    on_machine() { bash -c "$2"; }
    flock() { return 71; }
    export -f flock
    lock_environment; status=0; running_training 0 || status=$?; echo "status $status" """
    command = ["bash", "-euo", "pipefail", "-c", script, "-", tmp_path]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout == "status 3\n" and "locks no files: start no second installation" in done.stderr, done.stderr
