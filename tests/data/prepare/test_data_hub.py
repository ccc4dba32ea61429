"""The published data from a hub: a server on this machine that answers as the hub does, and the real client."""

import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from hashlib import sha256
from urllib.parse import unquote, urlsplit

import made_hub
import pytest
from processes import PATIENCE, ROOT, assert_refused, environment
from published import published_folder

from socrates.data.dataset import PARTS, read_metadata
from socrates.data.prepare.sources import open_source
from socrates.errors import SocratesError
from socrates.files import sha256_file

NAME, TOKEN = "someone/answers", "hf_" + "notarealtoken" * 2
OLD, NEW = "a" * 40, "b" * 40
TRAIN_1 = "data/train-00001-of-00003.parquet"


class Hub(made_hub.Hub):
    """A hub with one data set: a folder for each commit, and what each branch means."""

    def __init__(self, commits) -> None:
        super().__init__(NAME)
        self.RequestHandlerClass = _Answer
        self.commits, self.branches = dict(commits), {"main": OLD, "v2": NEW}
        self.cut = {}  # path of a file: how many requests of it get a part, after which the connection is closed
        self.sent = []  # paths of the files whose bytes were asked for, in order
        # A file whose bytes stop on the way until `go_on` is set; `stopped` says that one has.
        self.slow, self.stopped, self.go_on = None, threading.Event(), threading.Event()


class _Answer(made_hub._Answer):
    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(rf"/api/datasets/{NAME}(?:/(revision|tree)/([^/]+))?", path):
            return self.about(match[1], self.commit(match[2] or "main"))
        if match := re.fullmatch(rf"/datasets/{NAME}/resolve/([^/]+)/(.+)", path):
            return self.file(self.commit(match[1]), match[2])
        return self.reply(404, **{"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def commit(self, revision: str) -> str | None:
        commit = self.server.branches.get(revision, revision)
        return commit if commit in self.server.commits else None

    def about(self, what: str, commit: str | None) -> None:
        if commit is None:
            return self.reply(404, **{"X-Error-Code": "RevisionNotFound"})
        if what != "tree":
            return self.reply(200, {"id": NAME, "sha": commit, "siblings": []})
        folder = self.server.commits[commit]
        files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
        listed = [{"type": "file", "path": n, "size": f.stat().st_size, "oid": n} for n, f in files.items()]
        return self.reply(200, listed)

    def file(self, commit: str | None, name: str) -> None:
        hub = self.server
        if commit is None or not (path := hub.commits[commit] / name).is_file():
            return self.reply(404, **{"X-Error-Code": "EntryNotFound"})
        body = path.read_bytes()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{sha256(body).hexdigest()}"', "Accept-Ranges": "bytes"}
        status = 200
        if (asked := self.headers.get("Range")) and (match := re.fullmatch(r"bytes=(\d+)-", asked)):
            status, headers["Content-Range"] = 206, f"bytes {match[1]}-{len(body) - 1}/{len(body)}"
            body = body[int(match[1]) :]
        if self.command == "HEAD":
            return self.reply(status, body, **headers)
        hub.sent.append(name)
        is_cut = hub.cut.get(name, 0) > 0
        hub.cut[name] = hub.cut.get(name, 0) - is_cut
        if not is_cut and name != hub.slow:
            return self.reply(status, body, **headers)
        self.command = "HEAD"  # the headers alone; of the body a part, and no more
        self.reply(status, body, **headers)
        self.wfile.write(body[: 3000 if is_cut else 100])
        if not is_cut:
            hub.stopped.set()
            hub.go_on.wait(60)
        self.close_connection = True
        return None

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that was killed
            super().handle()


@pytest.fixture
def hub(commits):
    server = Hub(commits)
    yield server
    server.go_on.set()
    server.stop()


@pytest.fixture(scope="module")
def commits(tmp_path_factory):
    """Two commits: the newer has other rows. Beside them, files that a preparation has no use for."""
    folders = {}
    for commit, words in ((OLD, 5), (NEW, 6)):
        folders[commit] = published_folder(tmp_path_factory.mktemp("commit"), words=words, conditions=3)
        (folders[commit] / "README.md").write_text("about")
        (folders[commit] / "data" / "rows.jsonl").write_text("{}\n")
        (folders[commit] / "weights.bin").write_bytes(b"0" * 1000)
    return folders


@pytest.fixture
def prepare(tmp_path, hub):
    """Run the command, with a cache of its own; the token must stand in nothing that it prints or leaves."""

    def prepare(*arguments, output="out", stop=None, **extra):
        hub.sent.clear()
        command = [sys.executable, str(ROOT / "scripts" / "prepare_data.py"), "--source", NAME, "--output", output]
        known = {"HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        known |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "60"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([*command, *arguments], cwd=tmp_path, env=environment(**known | extra), **pipes)
        if stop is not None:
            assert hub.stopped.wait(PATIENCE)
            process.send_signal(stop)
        done = subprocess.CompletedProcess(process.args, None, *process.communicate(timeout=PATIENCE))
        done.returncode = process.returncode
        assert "Traceback" not in done.stderr, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        for file in (path for path in tmp_path.rglob("*") if path.is_file()):
            assert TOKEN.encode() not in file.read_bytes(), file
        return done

    return prepare


def hashes(folder):
    return {part: sha256_file(folder / f"{part}.jsonl") for part in PARTS}


@pytest.mark.slow
def test_only_what_is_needed_is_downloaded_and_only_once(tmp_path, prepare, hub):
    done = prepare()
    assert done.returncode == 0, done.stderr
    assert sorted(hub.sent) == [f"data/train-0000{i}-of-00003.parquet" for i in range(3)] + [
        f"metadata/{kind}_mapping.json" for kind in ("condition", "participant", "task")
    ]
    assert f"commit {OLD}" in done.stdout and f"--revision {OLD}" in done.stdout
    metadata = read_metadata(tmp_path / "out")
    assert metadata["source"]["commit"] == OLD and metadata["source"]["name"] == NAME
    assert prepare(output="second").returncode == 0 and hub.sent == []
    assert hashes(tmp_path / "second") == hashes(tmp_path / "out")
    again = prepare()
    assert again.returncode == 0 and "nothing to do" in again.stdout


@pytest.mark.slow
def test_the_same_command_gives_the_same_data_after_the_branch_has_moved(tmp_path, prepare, hub):
    assert prepare().returncode == 0
    before = hashes(tmp_path / "out")
    hub.branches["main"] = NEW
    again = prepare()
    assert again.returncode == 0 and "nothing to do" in again.stdout and OLD in again.stdout
    assert_refused(
        prepare("--revision", NEW), f"commit {OLD} (now {NEW}; --revision {OLD} gives the same data)", "--overwrite"
    )
    assert_refused(prepare("--seed", "1"), "seed 0 (now 1)")
    assert hashes(tmp_path / "out") == before and hub.sent == []
    assert prepare("--revision", "v2", output="other").returncode == 0
    source = read_metadata(tmp_path / "other")["source"]
    assert (source["revision"], source["commit"]) == ("v2", NEW)
    assert prepare("--overwrite").returncode == 0 and read_metadata(tmp_path / "out")["source"]["commit"] == NEW
    assert hashes(tmp_path / "out") != before


@pytest.mark.slow
def test_a_download_that_was_cut_goes_on(tmp_path, prepare, hub):
    hub.cut[TRAIN_1] = 99
    assert_refused(prepare(), f"{NAME}: the download stopped", "run the same command again")
    assert not (tmp_path / "out").exists()
    hub.cut.clear()
    done = prepare()
    assert done.returncode == 0, done.stderr
    assert TRAIN_1 in hub.sent and "metadata/participant_mapping.json" not in hub.sent
    hub.cut[TRAIN_1] = 1  # a connection that was lost once is opened again
    assert prepare(output="second", HF_HOME=str(tmp_path / "other cache")).returncode == 0
    assert hub.sent.count(TRAIN_1) == 2 and hashes(tmp_path / "second") == hashes(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_ended_in_the_middle_of_a_file_it_ends_at_once_and_goes_on(tmp_path, prepare, hub, stop):
    hub.slow = TRAIN_1
    done = prepare(stop=stop)
    assert done.returncode == (130 if stop == signal.SIGINT else -stop)
    assert stop != signal.SIGINT or "interrupted; run the same command again" in done.stderr
    assert not (tmp_path / "out").exists()
    assert_refused(
        prepare(HF_HUB_OFFLINE="1"), "not completely, in the local cache"
    )  # a part is not taken for the whole
    hub.slow = None
    assert prepare().returncode == 0 and TRAIN_1 in hub.sent


@pytest.mark.slow
def test_without_a_network_a_whole_cache_is_enough_and_a_part_is_refused_by_name(tmp_path, prepare, hub):
    assert prepare().returncode == 0
    done = prepare(output="offline", HF_HUB_OFFLINE="1")
    assert done.returncode == 0 and f"commit {OLD}" in done.stdout, done.stderr
    assert hashes(tmp_path / "offline") == hashes(tmp_path / "out") and hub.sent == []
    [cached] = (tmp_path / "cache").rglob(f"snapshots/*/{TRAIN_1}")
    cached.unlink()
    assert_refused(prepare(output="part", HF_HUB_OFFLINE="1"), "not completely, in the local cache", "connect and run")
    assert_refused(prepare("--revision", "v2", output="v2", HF_HUB_OFFLINE="1"), "in the local cache")
    shutil.rmtree(tmp_path / "cache")
    assert_refused(prepare(output="none", HF_HUB_OFFLINE="1"), "cannot reach the hub", "local data set folder")


def test_a_part_in_a_cache_that_an_older_client_left_is_never_taken_for_the_whole(commits, tmp_path, monkeypatch):
    """It recorded no list of the files, by which today's client tells."""
    shutil.copytree(commits[OLD], tmp_path / OLD)
    monkeypatch.setattr("socrates.data.prepare.sources.snapshot", lambda *_: tmp_path / OLD)
    assert len(open_source(NAME).files) == 3
    (tmp_path / OLD / TRAIN_1).unlink()
    with pytest.raises(SocratesError, match=r"only a part of it \(2 of 3 files\)"):
        open_source(NAME)
