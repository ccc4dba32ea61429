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

from socrates.data.prepare.prepare import prepare
from socrates.data.tokenize import ensure_tokenized
from socrates.errors import SocratesError
from socrates.files import NoLocks, lock_is_held, take_lock, write_json
from socrates.inference.journal import open_journal
from socrates.machine.background import start
from socrates.training.resume import lock_output


def failing(number, only=lambda descriptor: True, then=None):
    """A system call that fails with this error for some descriptors."""

    def call(file, *arguments):
        if only(file):
            raise OSError(number, os.strerror(number))
        return then(file, *arguments) if then else None

    return call


def is_folder(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_folder_that_cannot_be_flushed_is_passed_over_and_a_file_is_not(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number, is_folder))
    write_json(tmp_path / "a.json", {})
    monkeypatch.setattr(os, "fsync", failing(number, lambda descriptor: not is_folder(descriptor)))
    with pytest.raises(SocratesError, match=r"b\.json: cannot write"):
        write_json(tmp_path / "b.json", {})
    monkeypatch.setattr(os, "fsync", failing(errno.EIO, is_folder))
    with pytest.raises(SocratesError, match=r"c\.json: cannot write"):
        write_json(tmp_path / "c.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "c.json"]


def tokenize(folder):
    (folder / "train.jsonl").write_text("{}\n")
    ensure_tokenized(folder / "train.jsonl", survey_model(1)[1], None, 100)


def start_training(folder):
    start(SimpleNamespace(log="x.log", output_dir="models/x"), [], 0)


def prepare_data(folder):
    (folder / "in").mkdir()
    (folder / "in" / "rows.jsonl").write_text("{}\n")
    (folder / "in" / "participant_mapping.json").write_text('{"seen": ["a"], "unseen": ["b"]}')
    prepare(folder / "out", source=str(folder / "in"))


WRITERS = {
    "an evaluation": lambda folder: open_journal(folder, {}),
    "a training": lock_output,
    "a supervisor": start_training,
    "a fetch": lambda folder: take_lock(folder / "x.lock", "taken", waits=print),
    "tokenizing": tokenize,
    "a preparation": prepare_data,
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


def test_a_lock_that_fails_otherwise_names_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(SocratesError, match=r"^\.run/lock: cannot write: Input/output error"):
        start_training(tmp_path)


def test_shell_scripts_go_on_or_say_that_they_cannot_tell(tmp_path):
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / ".training.lock").write_text("process 1\n")
    (tmp_path / "flock").write_text("#!/bin/sh\nexit 71\n")
    (tmp_path / "flock").chmod(0o755)
    script = """source scripts/lib/common.sh; source scripts/lib/machine.sh; SOCRATES_ROOT=$1; cd "$1"
    on_machine() { bash -c "$2"; }
    lock_environment; status=0; running_training 0 || status=$?; echo "status $status" """
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script, "-", tmp_path]
    done = subprocess.run(command, cwd=ROOT, env=environment(PATH=path), capture_output=True, text=True, timeout=60)
    assert done.stdout == "status 3\n" and "locks no files: start no second installation" in done.stderr, done.stderr
