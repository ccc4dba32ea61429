"""The watch fetches everything, says each trouble once, and outlives it."""

import fcntl
import json
import os
import re
import signal
import subprocess
import threading
import time
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from mirrors import flip_a_bit, same_bytes
from processes import PATIENCE, ROOT, environment, wait_for

from socrates.checkpoint import find_damage
from socrates.errors import SocratesError
from socrates.remote.fetch import fetch_checkpoint, missing_checkpoints
from socrates.remote.instance import Unreachable
from socrates.remote.listing import list_trainings
from socrates.remote.logs import fetch_logs
from socrates.remote.monitor import Log, Monitor

pytestmark = pytest.mark.slow  # each test starts programs

TIME = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] ")


class Watch:
    """A monitor of which each round is run by hand, and the lines that it has said since one last looked."""

    def __init__(self, project, **options):
        self.lines = []
        self.monitor = Monitor(project.instance, project.models, Log(self.lines.append), **options)

    def round(self):
        self.monitor._round()
        return self.said()

    def said(self):
        lines, self.lines[:] = [TIME.sub("", line) for line in self.lines], []
        return lines


def new(label):
    return [f"Found new checkpoint: {label}", f"Downloading {label}...", f"✓ {label} downloaded successfully"]


def wait_while_it_runs(process, condition):
    wait_for(lambda: condition() or process.poll() is not None)
    assert process.poll() is None


def test_rounds_say_the_guides_lines_and_nothing_when_nothing_is_new(project):
    there = project.save(10)
    project.save(20, manifest=False)
    watch = Watch(project)
    assert watch.round() == new("checkpoint-10") and watch.round() == []
    assert same_bytes(project.models / "run" / "checkpoint-10", there)
    project.save(20)
    assert watch.round() == new("checkpoint-20")
    project.save(5, run="other")
    assert watch.round() == new("other/checkpoint-5"), "with several runs, the name says which"


def test_newest_first_and_what_is_not_here_before_what_is(project):
    for run in ("a", "b"):
        for step in (10, 9, 100):
            project.save(step, run=run)
    project.fetch(100, run="a")
    flip_a_bit(project.models / "a" / "checkpoint-100" / "optimizer.pt")
    found = [line.split()[1] for line in Watch(project).round() if line.endswith("successfully")]
    order = ["b/checkpoint-100", "a/checkpoint-10", "b/checkpoint-10", "a/checkpoint-9", "b/checkpoint-9"]
    assert found == [*order, "a/checkpoint-100"]


def test_only_one_run_and_light(project):
    project.save(10, run="a")
    project.save(10, run="b")
    Watch(project, run="b", light=True).round()
    assert [p.name for p in project.models.iterdir() if p.name in "ab"] == ["b"]
    assert not (project.models / "b" / "checkpoint-10" / "global_step10").exists()
    assert Watch(project, run="b").round() == new("b/checkpoint-10"), "without --light it is completed"
    assert (project.models / "b" / "checkpoint-10" / "global_step10").exists()
    assert Watch(project, run="c").round() == ["No checkpoint of c on the instance yet"]


def test_damage_on_the_instance_is_said_once_and_repaired_when_it_changes(project):
    there = project.save(10)
    whole = (there / "optimizer.pt").read_bytes()
    flip_a_bit(there / "optimizer.pt")
    watch = Watch(project)
    assert watch.round()[2:] == [
        "✗ checkpoint-10: damaged on the instance: optimizer.pt does not match the manifest there; "
        "fetched again when that changes there"
    ]
    project.asked()
    assert watch.round() == [] and project.asked() == [], "not fetched again while nothing has changed there"
    assert len(watch.monitor.log.problems) == 1
    (there / "optimizer.pt").write_bytes(whole)
    assert watch.round() == ["✓ checkpoint-10 downloaded successfully"]
    assert same_bytes(project.models / "run" / "checkpoint-10", there)
    assert not watch.monitor.log.problems


def test_trouble_with_a_checkpoint_that_is_deleted_there_is_over(project):
    project.save(20)
    (project.save(10) / "optimizer.pt").unlink()
    watch = Watch(project, until_complete=True)
    assert "✗ checkpoint-10: damaged on the instance" in watch.round()[-1]
    subprocess.run(["rm", "-r", project.there / "run" / "checkpoint-10"], check=True)
    watch.round()
    assert not watch.monitor.log.problems and not watch.monitor._missing


def test_no_such_instance_is_told_at_once_and_is_no_lost_connection(project):
    tnr = project.root / "scripts" / "tnr"
    tnr.write_text(
        '#!/usr/bin/env bash\necho "tnr: error: instance 0: not there. Ways:" >&2; echo "  one" >&2; exit 2\n'
    )
    download = ["--from", "0:run/checkpoint-10", "--to", "here/"]
    for arguments, script in ((["0", "1"], "monitor"), (["--missing"], "monitor"), (download, "download")):
        name = {"monitor": "monitor_checkpoints.py", "download": "download_checkpoint.py"}[script]
        status, output = project.run(*arguments, script=name)
        assert status == 2 and output.endswith("error: instance 0: not there. Ways:\none\n")


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        (".partial/checkpoint-10.lock", "is being fetched by another process (process unknown); left to it"),
        (".training.lock", "a training on this machine writes there; nothing is put there meanwhile; left to it"),
    ],
)
def test_what_another_process_works_on_is_left_to_it(project, lock, said):
    project.save(10)
    path = project.models / "run" / lock
    path.parent.mkdir(parents=True)
    watch = Watch(project)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert watch.round()[-1].endswith(said) and watch.round() == []
    assert watch.round()[-1] == "✓ checkpoint-10 downloaded successfully"
    assert watch.monitor.log.problems == []


def test_a_defect_of_our_own_is_said_and_the_rest_goes_on(project, monkeypatch):
    def fetch(instance, source, target, **options):
        if target.name == "checkpoint-20":
            raise ZeroDivisionError("oh")
        return fetch_checkpoint(instance, source, target, **options)

    for step in (10, 20):
        project.save(step)
    monkeypatch.setattr("socrates.remote.monitor.fetch_checkpoint", fetch)
    watch = Watch(project)
    problem = "✗ checkpoint-20: a defect of this program: ZeroDivisionError('oh')"
    assert watch.round() == [problem, *new("checkpoint-10")] and watch.round() == []


def test_models_removed_or_damaged_meanwhile_come_again(project):
    there = project.save(10)
    watch = Watch(project)
    watch.round()
    flip_a_bit(project.models / "run" / "checkpoint-10" / "optimizer.pt")
    assert "was damaged (optimizer.pt has changed" in watch.round()[0]
    subprocess.run(["rm", "-r", project.models], check=True)
    assert watch.round()[-1] == "✓ checkpoint-10 downloaded successfully"
    assert same_bytes(project.models / "run" / "checkpoint-10", there)


def test_pauses_grow_up_to_a_minute_or_the_interval(project, monkeypatch):
    def round_of_it(self):
        raise Unreachable("gone")

    monkeypatch.setattr(Monitor, "_round", round_of_it)
    for interval, last in ((5, [60, 60]), (100, [64, 100])):
        pauses = Mock(side_effect=[None] * 7 + [KeyboardInterrupt])
        monkeypatch.setattr("socrates.remote.monitor.time", SimpleNamespace(sleep=pauses))
        with pytest.raises(KeyboardInterrupt):
            Watch(project, interval=interval).monitor.watch()
        assert [call.args[0] for call in pauses.call_args_list] == [1, 2, 4, 8, 16, 32, *last]


# With real processes


def test_once_brings_all_and_its_status_tells(project):
    project.save(10)
    status, output = project.run("0", "--once")
    assert status == 0 and [TIME.sub("", line) for line in output.splitlines()] == [
        "=" * 32, "Checkpoint Monitor", "=" * 32, "Instance ID: 0", "Check interval: 300s",
        "Checkpoints go to: models/RUN/checkpoint-N/", *new("checkpoint-10"),
    ]  # fmt: skip
    (project.save(20) / "optimizer.pt").unlink()
    assert project.run("0", "--once")[0] == 1
    (project.root / "unreachable").touch()
    status, output = project.run("0", "--once")
    assert status == 2 and "error: connection refused" in output


def test_kill_9_in_the_middle_of_a_copy_and_run_again(project):
    there = project.save(10)
    project.fault("after_scp", "until [[ -e $SOCRATES_ROOT/go ]]; do sleep 0.02; done")
    first = project.start("0", "60")
    wait_while_it_runs(first, (project.root / "asked").exists)
    first.kill()
    first.communicate()
    assert not (project.models / "run" / "checkpoint-10").exists()
    # The copy outlives the monitor and still holds the lock: this one waits for its end, and uses what it brought.
    with project.start("0", "60", "--once") as second:
        waits = re.compile(r"being fetched by another process \(process \d+ on .*\); waiting for it")
        assert any(map(waits.search, second.stdout))
        (project.root / "go").touch()
        second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    assert same_bytes(project.models / "run" / "checkpoint-10", there)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_says_how_to_go_on_and_ends_the_copy(project, number, status):
    project.save(10)
    process = project.start("0", "60")
    wait_while_it_runs(process, (project.models / "run" / "checkpoint-10").exists)
    project.save(20, size=300_000)
    second = project.start("0", "60")
    assert second.wait(timeout=PATIENCE) == 2
    assert f"error: a monitor of instance 0 runs already (process {process.pid} on " in second.stdout.read()
    second.stdout.close()
    process.send_signal(number)
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == status
    assert output.endswith("\nMonitor stopped: 1 checkpoint here, all verified. Run it again to go on.\n")


def test_ctrl_c_in_the_middle_of_a_copy_leaves_no_process_behind(project):
    project.save(10, size=300_000)
    process = project.start("0", "60", SLOW="100")
    staging = project.models / "run" / ".partial" / "checkpoint-10"
    wait_while_it_runs(process, lambda: any(p.stat().st_size for p in staging.glob(".*.*")))
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=PATIENCE)[0]
    assert output.endswith("\nMonitor stopped. Run it again to go on.\n"), "nothing has been looked at yet"
    assert sum(p.stat().st_size for p in (staging / ".rsync-partial").iterdir()) > 0, "the next call goes on with it"
    with (staging.parent / "checkpoint-10.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lost_connection_is_said_once_and_outlived_until_all_is_complete(project):
    project.save(40)
    (project.root / "unreachable").touch()
    process = project.start("0", "1", "--until-complete")
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(TIME.sub("", line.rstrip()) for line in process.stdout))
    reader.start()
    wait_while_it_runs(process, lambda: any("Connection lost" in line for line in lines))
    tries = project.tries()
    wait_while_it_runs(process, lambda: project.tries() > tries + 1)  # one more was made whole: it must say nothing
    (project.root / "unreachable").unlink()
    wait_while_it_runs(process, lambda: any("successfully" in line for line in lines))
    assert process.poll() is None, "step 40 of 50 is not the last one"
    project.save(50)
    assert process.wait(timeout=PATIENCE) == 0
    reader.join()
    process.stdout.close()
    assert lines[7:] == [
        "Connection lost: connection refused; trying again",
        "Connected again",
        *new("checkpoint-40"),
        *new("checkpoint-50"),
        "✓ Training complete: all 2 checkpoints are here, verified",
    ]
    record = json.loads((project.models / ".monitor" / "instance-0.json").read_text())
    assert abs(record["last_round"] - time.time()) < PATIENCE
    assert record["downloaded"] == [["run", 40], ["run", 50]]
    assert record["pid"] == process.pid and record["rounds"] >= 2
    assert record["unsolved"] == []


def test_until_complete_ends_though_a_checkpoint_is_damaged_on_the_instance(project):
    project.save(50)
    (project.save(40) / "optimizer.pt").unlink()
    status, output = project.run("0", "1", "--until-complete")
    assert status == 1 and "✗ Training complete, but 1 checkpoints are damaged on the instance" in output


def test_two_monitors_of_two_instances_and_their_output_on_a_full_disk(project):
    project.save(10)
    with Path("/dev/full").open("w") as full:
        one = subprocess.Popen(project.start("0", "--once").args, stdout=full, cwd=project.root,
                               env={**os.environ, "SOCRATES_ROOT": str(project.root)})  # fmt: skip
        assert project.run("1", "--once")[0] == 0
        one.wait(timeout=PATIENCE)
    assert find_damage(project.models / "run" / "checkpoint-10") is None


def test_missing_lists_what_is_not_here_and_a_training(project, monkeypatch):
    assert project.run("0", "--missing") == (0, "")
    project.save(10)
    project.save(20)
    project.save(30, manifest=False)
    project.fetch(10, light=True)
    project.save(5, run="other")
    project.fetch(5, run="other")
    flip_a_bit(project.models / "other" / "checkpoint-5" / "optimizer.pt")
    assert project.run("0", "--missing") == (
        1,
        "other/checkpoint-5 is damaged here: optimizer.pt has changed: its SHA-256 is not the manifest's\n"
        "run/checkpoint-30 has no manifest.json: not finished, or other software's\n"
        "run/checkpoint-20 is not here\n",
    )
    (project.there.parent / ".run").mkdir()
    for path, name in ((".run/lock", "supervisor"), ("models/run/.training.lock", "run")):
        with (project.there.parent / path).open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert f"a training runs on the instance: {name}\n" in project.run("0", "--missing")[1]
    with monkeypatch.context() as patched, pytest.raises(SocratesError, match=r"trainings\.sh: no such program"):
        patched.setattr("socrates.remote.listing._LIST_TRAININGS", project.root / "trainings.sh")
        list_trainings(project.instance)
    (project.root / "unreachable").touch()
    status, output = project.run("0", "--missing")
    assert status == 2 and "error: connection refused" in output


@pytest.mark.parametrize("run", ["qwen_lr=1e-5", "my run", "läuft", "group/run", "a/b/c"])
def test_a_checkpoint_in_a_folder_without_a_plain_name_is_named_and_missing_until_it_is_here(project, run):
    folder = project.save(10, run=run)
    for option in ("--once", "--missing"):
        status, output = project.run("0", option)
        assert status == 1 and f"models/{run}/checkpoint-10 is not here and has no name to fetch it by" in output
    source = f"0:socrates-training/models/{run}/checkpoint-10"
    assert download(project, "--from", source, "--to", "models/plain/")[0] == 0
    assert same_bytes(project.models / "plain" / "checkpoint-10", folder)
    assert project.run("0", "--missing") == (0, "") and project.run("0", "--once")[0] == 0


LOG, JSONL = "training.log", "models/run/training_log.jsonl"


def write_logs(project, more, mode="ab"):
    (project.there / "run").mkdir(parents=True, exist_ok=True)
    for path in (LOG, JSONL, "my log.log"):
        with (project.there.parent / path).open(mode) as file:
            file.write(more)


def logs_here(project):
    folder = project.models / "logs" / "instance-0"
    return [(folder / path).read_bytes() for path in (LOG, "run/training_log.jsonl", "my%20log.log")]


def test_logs_are_brought_as_they_grow_and_another_machines_are_set_aside(project, monkeypatch):
    monkeypatch.setattr("socrates.remote.logs._PART", 1000)
    watch = Watch(project)
    write_logs(project, first := b"a line\0\xff\n" * 250)
    assert watch.round() == [] and logs_here(project) == [first] * 3
    before = (project.models / "logs" / "instance-0" / LOG).stat().st_ino
    write_logs(project, b"more")
    assert project.run("0", "--missing") == (0, ""), "it brings them itself: one that grows must not keep a machine"
    assert logs_here(project) == [first + b"more"] * 3
    assert (project.models / "logs" / "instance-0" / LOG).stat().st_ino == before, "added to"
    write_logs(project, b"another machine's", mode="wb")
    assert watch.round() == [] and logs_here(project) == [b"another machine's"] * 3
    (aside,) = (project.models / "logs" / "instance-0" / "run" / "set-aside").iterdir()
    assert aside.read_bytes() == first + b"more"


def test_a_log_that_cannot_be_brought_is_missing_and_a_hostile_one_takes_no_room(project, monkeypatch):
    write_logs(project, b"x" * 5000)
    (project.there / ".x").mkdir()
    (project.there / ".x" / "training_log.jsonl").write_text("x")
    monkeypatch.setattr("socrates.remote.logs._PART", 1000)
    monkeypatch.setattr("socrates.remote.logs._LIMIT", 7000)
    lines = missing_checkpoints(project.instance, project.models)
    assert sum("GiB; move them away" in line for line in lines) == 2
    assert "the log models/.x/training_log.jsonl is not here: its name is none of ours" in lines
    watch = Watch(project, once=True)
    assert watch.monitor.watch() == 1 and sum(" is not here: " in line for line in watch.said()) == 3
    assert sum(p.stat().st_size for p in project.models.rglob("*") if p.is_file()) < 7000 + 2000
    listed, asked = f"{'0' * 64} 5000 slow.log".encode(), []
    answers = [[listed], *([sha256(b"x" * have).hexdigest().encode(), b"x"] for have in range(100))]
    monkeypatch.setattr("socrates.remote.logs.ask", lambda *_: asked.append(1) or answers.pop(0))
    monkeypatch.setattr("socrates.remote.logs._LIMIT", 50_000)
    (line,) = fetch_logs(project.instance, project.models / "of a machine that gives a byte at a time")
    assert line == "the log slow.log is not here: it was changed while it was copied" and len(asked) == 1 + 53


# download_checkpoint.py and verify_checkpoint.py


def download(project, *arguments):
    status, output = project.run(*arguments, script="download_checkpoint.py")
    return status, TIME.sub("", output)


def test_download_finds_the_run_and_says_when_it_is_here(project):
    """As a person types it: from another folder, in a locale without the guide's signs."""
    for path in (ROOT / "scripts").iterdir():
        if path.name != "tnr":
            (project.root / "scripts" / path.name).symlink_to(path)
    (project.root / "socrates").symlink_to(ROOT / "socrates")

    def download():
        command = [project.root / "scripts" / "download_checkpoint.sh", "30"]
        done = subprocess.run(command, cwd="/", env=environment(LC_ALL="C"), capture_output=True, encoding="utf-8")
        assert done.returncode == 0 and not done.stderr
        return TIME.sub("", done.stdout)

    there = project.save(30)
    here = project.models / "run" / "checkpoint-30"
    assert download() == "Downloading checkpoint-30...\n✓ checkpoint-30 downloaded successfully\n"
    assert download() == "✓ checkpoint-30 is here already, intact: models/run/checkpoint-30\n"
    flip_a_bit(here / "optimizer.pt")
    assert "was damaged (optimizer.pt has changed" in download() and same_bytes(here, there)


def test_download_of_a_step_that_several_runs_or_none_have(project):
    project.save(30, run="a")
    project.save(30, run="b")
    status, output = download(project, 30)
    assert status == 2 and "  ./scripts/download_checkpoint.sh 30 --run b\n" in output
    assert not project.models.exists()
    assert download(project, 30, "--run", "b")[0] == 0 and (project.models / "b" / "checkpoint-30").exists()
    status, output = download(project, 31)
    assert status == 2 and "instance 0 has no checkpoint-31; there are:\n  a: 30\n  b: 30\n" in output


@pytest.mark.parametrize(
    "to, place",
    [
        ("new folder/", "new folder/checkpoint-30"),
        ("there", "there/checkpoint-30"),
        ("deep/checkpoint-30", "deep/checkpoint-30"),
        ("deep/checkpoint-30/", "deep/checkpoint-30"),
    ],
)
def test_download_from_a_path_puts_it_where_scp_would_also_the_second_time(project, to, place):
    there = project.save(30)
    (project.root / "there").mkdir()
    source = "0:~/socrates-training/models/run/checkpoint-30"
    assert "downloaded successfully" in download(project, "--from", source, "--to", to)[1]
    assert same_bytes(project.root / place, there)
    assert "is here already" in download(project, "--from", source, "--to", to)[1]


@pytest.mark.parametrize(
    "source, to, reason",
    [
        ("0:models", "x/", "must name a folder checkpoint-N"),
        ("0:~other/checkpoint-3", "x/", "must name a folder checkpoint-N"),
        ("0:checkpoint-3", "x", "must be a folder that takes checkpoint-3"),
        ("0:checkpoint-3", "checkpoint-4/", "another checkpoint's folder"),
        (":checkpoint-3", "x/", "no instance id"),
        ("0:nothing/checkpoint-3", "x/", "has no manifest.json"),
    ],
)
def test_download_from_a_path_that_cannot_be(project, source, to, reason):
    status, output = download(project, "--from", source, "--to", to)
    assert status == 2 and reason in output


def test_verify_tells_intact_light_and_damaged(project):
    for step in (10, 20, 30):
        project.save(step)
    project.fetch(10)
    project.fetch(20, light=True)
    status, output = project.run("models/run", script="verify_checkpoint.py")
    assert status == 0 and [line.split(": ")[1].split(" ")[0] for line in output.splitlines()] == ["intact", "light"]
    project.fetch(30)
    flip_a_bit(project.models / "run" / "checkpoint-30" / "optimizer.pt")
    status, output = project.run("models/run", script="verify_checkpoint.py")
    assert status == 1 and "checkpoint-30: damaged: optimizer.pt has changed" in output
    assert project.run("models/run/checkpoint-10", script="verify_checkpoint.py")[0] == 0
    for wrong in ("models", "nowhere"):
        status, output = project.run(wrong, script="verify_checkpoint.py")
        assert status == 2 and wrong in output
