"""The supervisor, with a fake training that dies on command, and once with DeepSpeed and a tiny model."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import PATIENCE, ROOT, assert_refused, environment, run_in, run_script, training_folder, wait_for

from socrates.errors import SocratesError
from socrates.files import write_json
from socrates.machine.run_state import Attempt, read_machine_env
from socrates.machine.supervisor import decide_next, make_training_job, refusal

pytestmark = pytest.mark.slow  # each test starts programs


def ended(status=1, from_step=0, reached=0, finished=False, output="", saved=None, stopped=None):
    return Attempt(
        *("a start", from_step, status, reached, from_step if saved is None else saved, finished, stopped),
        refused=refusal(status, output),
    )


@pytest.mark.parametrize(
    "attempt, best, restarts, state, reason",
    [
        (ended(0, 6, 9, finished=True), 6, 0, "complete", "last checkpoint"),
        (ended(0, 9, 9, finished=True), 9, 0, "complete", "last checkpoint"),  # it was complete already
        (ended(247, 6, 9, finished=True), 6, 3, "complete", "last checkpoint"),  # killed after its last save
        (ended(2, 9, 9, finished=True, output="error: another run's\n"), 9, 0, "failed", "another run's"),
        (ended(0, 6, 8), 6, 0, "restart", "without its last checkpoint"),  # the launcher's child was killed
        (ended(1, 0, 0), 0, 0, "failed", "no further than before (step 0)"),
        (ended(1, 0, 1), 0, 0, "restart", "at step 1"),
        (ended(247, 6, 8), 6, 0, "restart", "killed by SIGKILL"),
        (ended(1, 6, 8), 8, 1, "failed", "no further than before (step 8)"),
        (ended(1, 6, 9), 8, 2, "restart", "at step 9"),
        (ended(1, 6, 9), 8, 3, "failed", "3 times already"),
        (ended(2, 6, 9, output="error: no space left\n"), 6, 0, "failed", "refused to go on: no space left"),
        (ended(0, 6, 8, saved=8, stopped="SIGTERM"), 6, 0, "stopped", "at step 8, where its checkpoint is complete"),
        (ended(1, 6, 8, saved=8, stopped="SIGTERM"), 9, 3, "stopped", "SIGTERM"),  # the launcher was ended, too
        (ended(0, 6, 9, True, saved=9, stopped="SIGTERM"), 6, 0, "complete", "last checkpoint"),
        (ended(0, 6, 8, saved=6, stopped="SIGTERM"), 6, 0, "restart", "at step 8"),  # its checkpoint is damaged
    ],
)
def test_what_comes_after_an_attempt(attempt, best, restarts, state, reason):
    decided, why = decide_next(attempt, best, restarts)
    assert decided == state and reason in why


def test_an_unexpected_exception_says_what_the_decision_looks_for():
    program = "from socrates.errors import run_entry_point; run_entry_point(lambda: 1 / 0)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    decided, why = decide_next(ended(done.returncode, 0, 5, output=done.stderr), 0, 0)
    assert decided == "restart" and "exit status 2" in why


# A supervisor with a fake training: attempts.json says what each attempt does.

FAKE_TRAINING = r"""
import fcntl, json, os, signal, subprocess, sys, time
from pathlib import Path
import psutil
sys.path.insert(0, ROOT)
from socrates.checkpoint import GUIDE_FILES, newest_complete, checkpoint_step, write_manifest
from socrates.telemetry.recorder import Telemetry

folder = Path("models/run")
folder.mkdir(parents=True, exist_ok=True)
lock = (folder / ".training.lock").open("a+")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
lock.truncate(0)
lock.write(f"process {os.getpid()} on here\n")
lock.flush()
number = len(list(Path().glob("attempt-*")))
Path(f"attempt-{number}").touch()
act = json.loads(Path("attempts.json").read_text())[number]
newest, _ = newest_complete(folder)
step = checkpoint_step(newest) if newest else 0
if act.get("check_gone"):
    left = [p.status() for p in psutil.process_iter() if str(p.pid) == Path("orphan").read_text()]
    assert left in ([], [psutil.STATUS_ZOMBIE]), "left over"
print(act.get("say", f"attempt {number} says hello"), flush=True)
telemetry = Telemetry(folder)
if "to" in act:
    telemetry.begin(step, 9)
for step in range(step + 1, act.get("to", 0) + 1):
    telemetry.step(step, 9)
    if step % 3 == 0:
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir()
        for name in GUIDE_FILES:
            (checkpoint / name).write_text(json.dumps({"global_step": step, "max_steps": 9}))
        write_manifest(checkpoint, 1)
if act.get("orphan"):
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(3600)"
    left = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE)
    left.stdout.readline()
    Path("orphan").write_text(str(left.pid))
def asked(number, frame):  # it saves until a file `finish` is there
    with Path("asked").open("a") as file:
        file.write("x")
    while not Path("finish").exists():
        time.sleep(0.02)
    Path("saved").touch()
    sys.exit(0)

if act.get("hang") == "saves":
    signal.signal(signal.SIGTERM, asked)
if act.get("hang"):
    Path("hangs").write_text(str(os.getpid()))
    time.sleep(3600)
if act.get("stopped"):
    telemetry.stopped = act["stopped"]
    telemetry.end()
if act.get("signal"):
    os.kill(os.getpid(), act["signal"])
sys.exit(act.get("status", 0))
"""

DRIVER = r"""
import sys
sys.path.insert(0, ROOT)
from socrates.errors import run_entry_point
from socrates.machine.background import start
from socrates.machine.supervisor import Supervisor, TrainingJob

def main():
    command = lambda: [sys.executable, "fake training.py"]
    job = TrainingJob("c.json", "d.json", "training.log", "models/run", command, pause=0.1, grace=1)
    if sys.argv[1:]:
        return start(job, [sys.executable, "driver.py"], float(sys.argv[1]))
    return Supervisor(job).run()

run_entry_point(main)
"""


def start_in(folder, command):
    options = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, cwd=folder, env=environment(), text=True, **options)


class Place:
    """A project's folder on a training machine."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "fake training.py").write_text(f"ROOT = {str(ROOT)!r}\n{FAKE_TRAINING}")
        (folder / "driver.py").write_text(f"ROOT = {str(ROOT)!r}\n{DRIVER}")

    def start(self, *attempts, watch=PATIENCE):
        """Start a fake training that does these; comes back when all of the caller's pipes are closed."""
        (self.folder / "attempts.json").write_text(json.dumps(attempts))
        return run_in(self.folder, [sys.executable, "driver.py", str(watch)])

    def supervise(self, *arguments):
        return run_script("supervise.py", *arguments, cwd=self.folder)

    def begin_to_stop(self, *options):
        """A `supervise.py stop` that has said what it does."""
        stop = start_in(self.folder, [sys.executable, "-u", str(ROOT / "scripts/supervise.py"), "stop", *options])
        stop.said = stop.stdout.readline()
        return stop

    def finish(self, *stops):
        """Let the rank finish its checkpoint; the exit statuses of those who wait for it."""
        (self.folder / "finish").touch()
        return [stop.communicate(timeout=PATIENCE) and stop.returncode for stop in stops]

    @property
    def state(self):
        return json.loads((self.folder / ".run/state.json").read_text())

    def wait_until_over(self):
        wait_for(lambda: self.state["state"] != "running", lambda: self.log)
        return self.state

    @property
    def log(self):
        return (self.folder / "training.log").read_text()

    def hanging(self):
        path = self.folder / "hangs"
        wait_for(lambda: path.exists() and path.read_text(), lambda: self.log)
        return int(path.read_text())


def processes_in(folder):
    found = psutil.process_iter(["cwd", "status"])
    return [p.pid for p in found if p.info["cwd"] == str(folder) and p.info["status"] != psutil.STATUS_ZOMBIE]


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "a place"
    folder.mkdir()
    yield Place(folder)
    for pid in processes_in(folder):  # of a test that failed
        os.kill(pid, signal.SIGKILL)


def test_killed_twice_it_ends_complete_with_two_restarts_on_record(place):
    """Nor is the next attempt disturbed by a process of the first in a session of its own that ignores SIGTERM."""
    kill = {"signal": signal.SIGKILL}
    result = place.start({"to": 4, "orphan": True, **kill}, {"to": 7, "check_gone": True, **kill}, {"to": 9})
    assert result.returncode == 0, result.stderr
    state = place.wait_until_over()
    assert state["state"] == "complete" and state["restarts"] == 2 and state["ended"], place.log
    steps = [(a["from_step"], a["reached_step"], a["exit_status"]) for a in state["attempts"]]
    assert steps == [(0, 4, -9), (3, 7, -9), (6, 9, 0)]
    headers = [line for line in place.log.splitlines() if line.startswith("=== 20")]
    assert "attempt 1: starting from the base model" in headers[0] and "complete" in headers[-1]
    assert any("attempt 3: going on from step 6" in line for line in headers)
    assert place.supervise("state").returncode == 0


def test_what_refuses_to_go_on_is_not_started_again(place):
    place.start({"to": 5, "status": 2, "say": "error: no space left"}, {"to": 9})
    state = place.wait_until_over()
    assert (state["state"], state["restarts"]) == ("failed", 0)
    assert "refused to go on: no space left" in state["reason"]
    told = place.supervise("state")
    assert told.returncode == 1 and "  error: no space left" in told.stdout


def test_one_that_dies_at_start_is_told_with_its_last_lines_only(place):
    (place.folder / "training.log").write_text("an old line\n")
    result = place.start({"say": "\n".join(f"line {n}" for n in range(30)), "status": 1}, {"to": 9})
    assert result.returncode == 1
    assert "no further than before" in result.stderr and "line 29\n" in result.stderr
    assert "an old line" not in result.stderr and "line 5\n" not in result.stderr
    assert place.log.startswith("an old line\n"), "the log is added to"
    assert len(place.state["attempts"]) == 1
    second = place.start({"status": 1}, {"say": "the second start", "status": 1})
    assert "the second start" in second.stderr and "line 29" not in second.stderr


def test_an_older_runs_progress_is_not_taken_for_this_ones(place):
    place.start({"to": 5, "status": 1}, {"to": 5, "status": 1})
    assert place.wait_until_over()["restarts"] == 1
    result = place.start({}, {}, {"status": 1}, {"to": 9})  # from checkpoint-3, no step done
    assert result.returncode == 1 and "at step 3, no further than before" in result.stderr


def test_of_many_starts_at_once_one_goes_through_and_a_later_one_is_refused(place):
    (place.folder / "attempts.json").write_text(json.dumps([{"to": 1, "hang": True}]))
    (place.folder / ".run").mkdir()
    with (place.folder / ".run/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # who looks for a moment, as status.sh and the monitor do, does not hinder
        starts = [start_in(place.folder, [sys.executable, "driver.py", str(PATIENCE)]) for _ in range(4)]
        time.sleep(2)
    said = {start.communicate(timeout=PATIENCE)[0]: start.returncode for start in starts}
    pid = place.state["pid"]
    started = (
        f"Training started in the background: process {pid}, log training.log\nTraining runs: step 1 of 9 is done\n"
    )
    assert said == {started: 0, "": 2} and [start.returncode for start in starts].count(2) == 3
    assert len(list(place.folder.glob("attempt-*"))) == 1
    assert_refused(place.start({"to": 9}), f"running here already (process {pid} since 20", "supervise.py stop")
    state = place.supervise("state")
    assert state.returncode == 0 and state.stdout.startswith("running\n") and f"process {pid}" in state.stdout
    assert place.supervise("stop").returncode == 0


def test_a_training_started_by_hand_is_seen_and_not_disturbed(place):
    folder = place.folder / "models/other"
    folder.mkdir(parents=True)
    with (folder / ".training.lock").open("w") as lock:
        lock.write(f"process {os.getpid()} on here\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_refused(place.start({"to": 9}), "no supervisor watches", f"process {os.getpid()} on here, into models/")
        state = place.supervise("state")
        assert state.returncode == 0 and state.stdout.startswith("running: started without the supervisor; ")
        assert f"running without supervisor: process {os.getpid()} on here" in state.stdout
        assert_refused(place.supervise("stop"), f"kill {os.getpid()}")
    assert not (place.folder / "attempt-0").exists()
    assert place.supervise("state").returncode == 2, "never started"
    assert place.start({"to": 9}).returncode == 0


def test_stop_ends_all_of_it_and_says_where_it_can_go_on(place):
    place.start({"to": 4, "orphan": True, "hang": True})
    place.hanging()
    result = place.supervise("stop")
    assert result.returncode == 0, result.stderr
    assert "stopped: at step 4, as it was asked to; newest complete checkpoint: step 3" in result.stdout, result.stdout
    assert "--config c.json --deepspeed d.json --log training.log" in result.stdout
    assert not processes_in(place.folder)
    assert place.state["state"] == "stopped" and place.state["restarts"] == 0
    assert place.supervise("state").returncode == 1
    again = place.supervise("stop")
    assert again.returncode == 1 and "Nothing is running" in again.stdout


def test_a_training_that_stopped_by_itself_is_not_started_again(place):
    result = place.start({"to": 6, "stopped": "one step more would pass max_cost_usd"}, {"to": 9}, watch=0)
    state = place.wait_until_over()
    assert (state["state"], state["restarts"], len(state["attempts"])) == ("stopped", 0, 1)
    assert state["reason"].startswith("at step 6, where its checkpoint is complete: one step more would pass")
    assert "died" not in result.stderr
    told = place.supervise("state")
    assert told.returncode == 1 and "to go on: python scripts/supervise.py start --config c.json" in told.stdout
    place.start({}, {"to": 9})
    assert place.wait_until_over()["state"] == "complete"


def test_stop_waits_for_a_checkpoint_and_a_second_one_waits_too(place):
    place.start({"to": 4, "hang": "saves"})
    place.hanging()
    first = place.begin_to_stop()
    wait_for((place.folder / "asked").exists)
    second = place.begin_to_stop()
    time.sleep(1.5)  # longer than its grace: for a checkpoint there is more
    assert place.finish(first, second) == [0, 0]
    assert (place.folder / "saved").exists() and place.state["state"] == "stopped"
    assert (place.folder / "asked").read_text() == "x", "a training that is asked twice ends at once"
    assert not processes_in(place.folder)


@pytest.mark.parametrize("ctrl_c", [False, True])
def test_stop_now_or_ctrl_c_does_not_wait(place, ctrl_c):
    place.start({"to": 4, "hang": "saves"})
    place.hanging()
    if ctrl_c:
        stop = place.begin_to_stop()
        wait_for((place.folder / "asked").exists)
        stop.send_signal(signal.SIGINT)
    else:
        stop = place.begin_to_stop("--now")
        assert "asked to stop" not in place.log
    assert "at once; this takes up to half a minute" in stop.said + stop.communicate(timeout=PATIENCE)[0]
    assert stop.returncode == 0 and place.state["state"] == "stopped" and not processes_in(place.folder)


def test_stopped_while_it_waits_to_start_again(place):
    driver = place.folder / "driver.py"
    driver.write_text(driver.read_text().replace("pause=0.1", "pause=600"))
    place.start({"to": 4, "status": 1}, {"to": 9}, watch=0)
    wait_for(lambda: "starting it again in" in place.log)
    assert place.supervise("stop").returncode == 0
    assert (place.state["state"], place.state["restarts"]) == ("stopped", 0)


@pytest.mark.parametrize("then", ["start", "stop"])
def test_the_supervisor_killed_then_its_training_too_but_for_a_rank(place, then):
    place.start({"to": 4, "orphan": True, "hang": True})
    training = place.hanging()
    os.kill(place.state["pid"], signal.SIGKILL)
    wait_for(lambda: place.state["pid"] not in processes_in(place.folder))
    result = place.supervise("state")
    assert result.returncode == 0 and "the supervisor is gone" in result.stdout
    assert f"running without supervisor: process {training}" in result.stdout
    for refused in (place.start({"to": 9}), place.supervise("stop")):
        assert_refused(refused, "no supervisor watches", f"end it after a checkpoint: kill {training}\n")
    os.kill(training, signal.SIGTERM)
    wait_for(lambda: len(processes_in(place.folder)) == 1)
    assert place.state["state"] == "running", "that is what stands there"
    result = place.supervise("state")
    assert result.returncode == 1
    assert result.stdout.startswith("failed: the supervisor is gone (killed, or the machine restarted)\n")
    if then == "stop":
        assert place.supervise("stop").returncode == 0 and not processes_in(place.folder)
        assert place.supervise("stop").returncode == 1
    assert place.start({}, {"to": 9, "check_gone": True}).returncode == 0, "what holds a GPU is ended first"
    assert place.wait_until_over()["state"] == "complete"


def test_it_outlives_the_terminal_that_started_it(place):
    """script(1) gives the caller a terminal and takes it away again: SIGHUP to all that belongs to it."""
    (place.folder / "attempts.json").write_text(json.dumps([{"to": 1, "hang": True}]))
    command = f"{sys.executable} driver.py {PATIENCE}"
    run_in(place.folder, ["script", "-qec", command, "/dev/null"])
    training = place.hanging()
    time.sleep(0.3)  # for what would end it
    supervisor = place.state["pid"]
    assert {supervisor, training} <= set(processes_in(place.folder))
    for pid in (supervisor, training):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert fields[4] == "0", "no terminal"
    files = {path.readlink() for path in Path(f"/proc/{supervisor}/fd").iterdir()}
    own = {Path("/dev/null"), place.folder / "training.log", place.folder / ".run/lock"}
    assert files == own, "nothing of the caller's is kept open"


def test_ctrl_c_while_watching_leaves_the_training_alone(place, tmp_path):
    """The entry point itself, with a launcher that hangs."""
    arguments = start_arguments(place.folder)
    caller = start_in(place.folder, [sys.executable, str(ROOT / "scripts/supervise.py"), "start", *arguments])
    assert "process" in caller.stdout.readline()
    caller.send_signal(signal.SIGINT)
    _, errors = caller.communicate(timeout=PATIENCE)
    assert caller.returncode == 130 and "the training goes on" in errors and "Traceback" not in errors
    assert place.state["pid"] in processes_in(place.folder)
    assert place.supervise("stop").returncode == 0


def start_arguments(folder):
    """What `start` needs, in files: a config, its DeepSpeed file, and data that no training would accept."""
    config = json.loads((ROOT / "config_test_run.json").read_text())
    write_json(folder / "config.json", config)
    write_json(folder / "deepspeed.json", json.loads((ROOT / "deepspeed_config_test.json").read_text()))
    (folder / "data/socsci210_full").mkdir(parents=True, exist_ok=True)
    (folder / "data/socsci210_full/train.jsonl").write_text("x\n")
    return ["--config", "config.json", "--deepspeed", "deepspeed.json", "--log", "training.log"]


def test_wrong_input_is_refused_before_anything_happens(place):
    arguments = start_arguments(place.folder)
    before = sorted(place.folder.iterdir())
    for name, message in (("config.json", "no such config"), ("deepspeed.json", "no such DeepSpeed config")):
        wrong = [part.replace(name, "absent.json") for part in arguments]
        assert_refused(place.supervise("start", *wrong), f"absent.json: {message}")
    for more in ("--nonsense", "--watch=-1", "--watch=nan", "--watch=x"):
        assert_refused(place.supervise("start", *arguments, more), "usage:")
    (place.folder / "machine.env").write_text("HF_TOKEN=secret-1\n")
    refused = place.supervise("start", *arguments)
    assert_refused(refused, "machine.env: line 1: HF_TOKEN is a secret")
    assert "secret-1" not in refused.stderr
    (place.folder / "machine.env").unlink()
    (place.folder / "data/socsci210_full/train.jsonl").unlink()
    assert_refused(place.supervise("start", *arguments), "train.jsonl: no such data file")
    assert sorted(place.folder.iterdir()) == before
    assert_refused(place.supervise(), "usage:")
    start_arguments(place.folder)
    arguments[-1] = "absent/x.log"
    assert_refused(place.supervise("start", *arguments), "absent/x.log: cannot write: ")
    assert not (place.folder / ".run/state.json").exists()


def test_the_command_uses_the_gpus_that_were_chosen(place, monkeypatch):
    files = start_arguments(place.folder)[:4]
    arguments = [*files[1::2], "training.log"]
    monkeypatch.chdir(place.folder)
    for name in ("CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)
    command = make_training_job(*arguments).command
    assert "--num_gpus=2" in command() and command()[-4:] == files, "--resume-weights-only when asked for by name"
    assert make_training_job(*arguments, weights_only=True).command()[-1] == "--resume-weights-only"
    ports = {part for _ in range(3) for part in command() if part.startswith("--master_port=")}
    assert ports and "--master_port=29500" not in ports
    for names, why in (("3", "names 1 GPUs"), ("GPU-3a5c,GPU-1a5c", "does not name GPUs by number; write")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
        with pytest.raises(SocratesError, match=why):
            make_training_job(*arguments)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5")
    assert "--include=localhost:2,3" in make_training_job(*arguments).command()
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "--num_gpus=2" in make_training_job(*arguments).command()


def test_machine_env(tmp_path):
    path = tmp_path / "machine.env"
    assert read_machine_env(path) == {}
    path.write_text("# this machine\n\nHF_HOME=/mnt/a disk/hf\nNCCL_P2P_DISABLE=1\nEMPTY=\nX=a=b\n")
    assert read_machine_env(path) == {"HF_HOME": "/mnt/a disk/hf", "NCCL_P2P_DISABLE": "1", "EMPTY": "", "X": "a=b"}
    for line in ("A", "1A=x", "A =x", 'A="x"', "A=$HOME", "A=`id`", "TNR_API_TOKEN=t0k", "HUGGING_FACE_HUB_TOKEN=t0k"):
        path.write_text(f"B=1\n{line}\n")
        with pytest.raises(SocratesError, match="line 2: ") as error:
            read_machine_env(path)
        assert "t0k" not in str(error.value)


def test_with_deepspeed_stopped_and_gone_on_it_ends_complete(tmp_path):
    """24 steps of a tiny model, a checkpoint every 12; that it is killed and restarted: tests/scripts/remote.bats."""
    folder = training_folder(tmp_path / "project", steps=24, save_steps=12, training={"logging_steps": 2})
    place = Place(folder)
    (folder / "machine.env").write_text("DS_ACCELERATOR=cpu\n")
    files = ("--config", "config.json", "--deepspeed", "deepspeed_config.json", "--log", "training.log")
    try:
        start = place.supervise("start", *files)
        assert start.returncode == 0 and "of 24 is done" in start.stdout, start.stdout + start.stderr + place.log
        stop = place.supervise("stop")
        assert stop.returncode == 0 and "after this step and its checkpoint" in stop.stdout, stop.stderr
        step = json.loads((folder / "models/run/.progress.json").read_text())["step"]
        assert f"stopped: at step {step}, as it was asked to; newest complete checkpoint: step {step}\n" in stop.stdout
        assert place.state["restarts"] == 0 and not processes_in(folder)
        start = place.supervise("start", *files)
        assert start.returncode == 0, start.stdout + start.stderr + place.log
        state = place.wait_until_over()
    finally:
        place.supervise("stop", "--now")
    assert (state["state"], state["restarts"], state["attempts"][0]["from_step"]) == ("complete", 0, step), place.log
    assert f"Resuming from models/run/checkpoint-{step}\n" in place.log
    assert not processes_in(folder)
