"""One screen of the truth: from folders as training machines leave them, hostile ones included."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from dataclasses import replace

import pytest
from machines import FULL, TEST, Machine, iso
from processes import PATIENCE, ROOT, environment

from socrates.console import duration
from socrates.files import finite
from socrates.phases import PhaseRecord
from socrates.remote.local import LocalState, find_local_state
from socrates.remote.status.machine_report import GATHER, RunReport, parse_report
from socrates.remote.status.run_status import Trend, current_lines, loss_trend, seconds_per_step
from socrates.remote.status.screen import as_json, shorten, status_screen
from socrates.remote.status.summary import make_status
from socrates.remote.untrusted import CutOff, plain
from socrates.telemetry.gpus import GpuSample
from socrates.telemetry.log import LogLine

HERE = LocalState("0", "a folder")
PID = 4711


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path / "a place")
    with made.locks:
        yield made


def look(machine, now=None, here=HERE, **environment):
    report = parse_report(machine.run(GATHER, **environment))
    return make_status(replace(report, clock=machine.now), here, machine.now if now is None else now)


def running(machine, step=5000, pace=10, ago=5, **more):
    machine.config()
    machine.progress(step, pace=pace, ago=ago, **more)
    machine.state(begun=ago + pace * step + 595)
    machine.hold(".run/lock")
    machine.hold(f"models/{FULL}/.training.lock")


# -- how far, until when, for how much


def test_a_running_training(machine):
    running(machine, step=5000, pace=10)
    status = look(machine)
    assert (status.verdict, status.exit_status, status.problem) == ("running", 0, None)
    assert (status.phase, status.run) == ("Phase 3: Full Training", FULL)
    assert (status.step, status.max_steps) == (5000, 11300)
    assert status.seconds_per_step == pytest.approx(10)
    assert status.seconds_left == pytest.approx(63000 - 5, abs=1)
    assert status.loss == pytest.approx(2.5 - 5000 / 11300)
    assert status.trend.word in ("falling", "level") and status.trend.after < status.trend.before
    assert status.tokens_per_second == 8000
    screen = status_screen(status)
    assert "step 5,000 of 11,300 (44.2%)" in screen
    assert "Instance 0 (a folder): RUNNING" in screen


def test_the_end_is_told_by_this_computers_clock(machine):
    running(machine)
    ours = machine.now + 3600  # the machine's clock is an hour behind
    status = look(machine, now=ours)
    assert status.ends == pytest.approx(ours + status.seconds_left)
    assert status.ends == pytest.approx(machine.now + 3600 + 63000, abs=10)
    assert status.problem is None, "an hour's difference of clocks is no standstill"
    assert status.started == pytest.approx(machine.now + 3600 - 50600, abs=2)


def test_money_counts_from_the_first_start_to_the_end_and_the_idle_time_apart(machine):
    running(machine, step=5000)
    machine.config(price_per_hour=7.2)
    money = look(machine).money
    assert money.spent == pytest.approx(7.2 * 50600 / 3600, rel=1e-3)
    assert money.expected == pytest.approx(money.spent + 7.2 * 63000 / 3600, rel=1e-3)
    machine.locks.close()
    machine.state("complete", begun=50600, ended=iso(machine.now - 7200))
    status = look(machine)
    assert not re.search(r"\.\.\.$", status_screen(status), re.MULTILINE), "no line is cut off"
    money = status.money
    assert money.idle == pytest.approx(14.4, abs=0.01)
    assert money.expected == pytest.approx(money.spent - 14.4, abs=0.01)


def test_money_counts_starts_before_the_last_one(machine):
    running(machine, step=1000, ago=50_000)  # the log of the first start
    machine.progress(1200, since=1000)
    machine.state(begun=2600)
    status = look(machine)
    assert status.started == pytest.approx(machine.now - 50_000 - 10_000, abs=2)


def test_the_trainings_own_count_of_its_cost_comes_first(machine):
    running(machine, step=5000, logged={"cost_usd": 150.0, "mfu": 0.4712, "padding_share": 0.0, "eval_loss": 0.51})
    status = look(machine)
    money = status.money
    assert money.own_count and money.spent == pytest.approx(150 + 7.2 * 5 / 3600, abs=0.01)
    assert money.expected == pytest.approx(150 + 7.2 * 63000 / 3600, abs=0.1)
    screen = status_screen(status)
    assert (
        "$150.01 so far, about $276.00 at the run's end" in screen and "all attempts, by the training's own" in screen
    )
    assert "padding 0.0%, FLOPs utilisation 47.1%" in screen and "on evaluation rows 0.51;" in screen
    assert not re.search(r"\.\.\.$", screen, re.MULTILINE), "no line is cut off"
    longest = replace(status, loss=0.83154, learning_rate=4.19e-6, eval_loss=0.93214, trend=Trend(0.96, 0.83, 20))
    assert "0.8315, falling over 20 lines; on evaluation rows 0.9321; learning rate 4.19e-06\n" in status_screen(
        longest
    )
    machine.locks.close()
    machine.state("complete", begun=50600, ended=iso(machine.now - 7200))
    machine.progress(5000, ago=7210, logged={"cost_usd": 300.0})
    money = look(machine).money
    assert money.idle == pytest.approx(14.4, abs=0.01)
    assert money.expected == pytest.approx(300.02, abs=0.01) and money.spent == pytest.approx(314.42, abs=0.01)


def test_pace_is_of_the_present_process_only():
    slow = [LogLine(time=100.0 * k, step=k, elapsed_s=100.0 * k) for k in range(1, 40)]
    fast = [LogLine(time=9000 + 2.0 * k, step=35 + k, elapsed_s=2.0 * k) for k in range(1, 4)]
    lines = current_lines(RunReport("r", lines=(*slow, *fast)))
    assert [line.step for line in lines] == [36, 37, 38]
    assert seconds_per_step(lines, RunReport("r")) == pytest.approx(2)


def test_loss_trend_compares_ends_and_ignores_what_is_no_number():
    def lines(*losses):
        return [LogLine(step=k, time=k, loss=loss) for k, loss in enumerate(losses)]

    assert loss_trend(lines(2.0, 1.9, 1.8)) is None
    assert loss_trend(lines(2.0, None, 1.9, 1.8, 1.0)).word == "falling"
    assert loss_trend(lines(1.0, 1.1, 1.2, 2.0)).word == "rising"
    assert loss_trend(lines(1.0, 3.0, 0.1, 1.001)).word == "level"


def test_what_is_not_known_says_so_and_is_never_zero(machine):
    machine.config(price_per_hour=None)
    machine.state(begun=60)
    machine.hold(".run/lock")
    status = look(machine, PATH=without_nvidia_smi(machine))
    assert status.verdict == "running"
    assert (status.step, status.loss, status.tokens_per_second, status.money) == (None, None, None, None)
    screen = status_screen(status)
    assert "Progress     unknown: no step yet: it loads the model and the data" in screen
    assert "loss unknown" in screen and "tokens a second unknown" in screen
    assert "Money        unknown: no price_per_hour" in screen
    assert not re.search(r"\.\.\.$", screen, re.MULTILINE), "no line is cut off"
    assert "GPUs         unknown: no nvidia-smi" in screen
    assert not re.search(r"\b0(\.0+)?%|\$0\.00|loss 0\b", screen)


# -- what is wrong


@pytest.mark.parametrize(
    ("quiet", "pace", "wrong"), [(800, 10, False), (1000, 10, True), (1000, 200, False), (2100, 200, True)]
)
def test_a_standstill_is_15_minutes_or_10_steps_whichever_is_longer(machine, quiet, pace, wrong):
    running(machine, step=200, ago=quiet, pace=pace)
    status = look(machine)
    assert (status.verdict == "wrong") == wrong
    assert status.exit_status == (1 if wrong else 0)
    assert ("no progress for" in status_screen(status)) == wrong
    if wrong:
        assert status.ends is None, "a training that stands still has no end to tell"


def test_loading_a_model_is_no_standstill_but_an_hour_of_it_is(machine):
    machine.state(begun=1800)
    machine.hold(".run/lock")
    assert look(machine).verdict == "running"
    machine.state(begun=4000)
    assert "no step for 67 min" in look(machine).problem


def test_after_a_restart_old_progress_neither_counts_nor_alarms(machine):
    machine.config()
    machine.progress(700, ago=1200)
    attempts = [
        {"started": iso(machine.now - 9000), "from_step": 0, "reached_step": 700, "exit_status": 247},
        {"started": iso(machine.now - 1190), "from_step": 500, "reached_step": None, "exit_status": None},
    ]
    machine.state(begun=9000, attempts=attempts, restarts=1)
    machine.hold(".run/lock")
    status = look(machine)
    assert (status.verdict, status.step) == ("running", 500)
    assert "1 restart (the last after step 700" in status_screen(status)


def test_what_the_training_warns_of_is_a_problem_while_it_holds(machine):
    warnings = ["the loss has risen to 2.31: stop it and go on from a checkpoint before that", "GPU 2 has been idle"]
    running(machine, told={"warnings": warnings})
    status = look(machine)
    assert (status.verdict, status.exit_status) == ("wrong", 1)
    screen = status_screen(status)
    assert "SOMETHING IS WRONG" in screen and "warning: the loss has risen to 2.31: stop it and go on" in screen
    assert "warning: GPU 2 has been idle" in screen and status.seconds_left, "it trains on"
    attempts = [{"started": iso(machine.now - 2), "from_step": 4500, "reached_step": None, "exit_status": None}]
    machine.state(begun=90000, attempts=attempts)
    assert look(machine).verdict == "running", "those were of the attempt before"


@pytest.mark.parametrize("limit", [True, False])
def test_a_clean_stop_says_why_and_how_to_go_on(machine, limit):
    why = "one step more would pass max_cost_usd = $100.00 ($99.70 are spent)" if limit else "SIGTERM asked it to"
    machine.progress(4321, told={"stopped": why})
    machine.checkpoint(4321)
    status = look(machine)
    assert status.exit_status == 1
    assert f"it stopped at step 4,321 of 11,300, where its checkpoint is complete: {why}" in status.problem
    assert "Go on: the same command again" in status.problem, "started by hand"
    machine.state("stopped", begun=60000, ended=iso(machine.now - 9), reason=f"at step 4321: {why}")
    status = look(machine)
    assert why in status.problem and "./scripts/launch_full_training.sh 0 --resume" in status.problem
    assert ("with a larger max_cost_usd in its config" in status.problem) == limit


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({}, ""),
        ({"deepspeed": "other.json"}, " --deepspeed other.json"),
        (
            {"config": "config_test_run.json", "deepspeed": "deepspeed_config_test.json"},
            " --config config_test_run.json",
        ),
        ({"deepspeed": "d;reboot"}, " --deepspeed 'd;reboot'"),
    ],
)
def test_the_way_on_names_the_files_that_a_launch_would_not_take_by_itself(machine, files, options):
    machine.checkpoint(4321)
    machine.state("failed", begun=60000, ended=iso(machine.now - 9), reason="it died", **files)
    way_on = look(machine).problem.splitlines()[-1]
    assert way_on.endswith(f"./scripts/launch_full_training.sh 0 --resume{options}")


@pytest.mark.parametrize(("boot", "says"), [(None, "ended by force"), ("another", "the machine was restarted")])
def test_a_dead_supervisor_is_not_running_whatever_its_record_says(machine, boot, says):
    machine.progress(5000)
    machine.state(begun=9000, **({"boot_id": boot} if boot else {}))
    machine.checkpoint(4500)
    machine.write(".run/lock", "process 1 since ever\n")  # a living pid, but nobody holds the lock
    status = look(machine)
    assert status.exit_status == 1
    assert says in status.problem and "--resume" in status.problem
    assert status.ends is None


def test_a_training_whose_supervisor_died_runs_but_something_is_wrong(machine):
    machine.progress(5000)
    machine.state(begun=60000)
    machine.write(".run/lock", "")
    machine.hold(f"models/{FULL}/.training.lock")
    status = look(machine)
    assert status.exit_status == 1
    assert "runs on" in status.problem
    assert status.seconds_left is not None


def test_failed_tells_the_reason_and_the_end_of_the_log(machine):
    machine.progress(5000)
    machine.state("failed", begun=60000, ended=iso(machine.now - 9), reason="it does not get further")
    machine.write("training.log", "all well\n" * 50 + "Traceback (most recent call last):\nRuntimeError: NCCL\n")
    machine.write("training_test.log", "another run's log\n")
    screen = status_screen(look(machine))
    assert "it does not get further" in screen
    assert screen.endswith("Traceback (most recent call last):\n  RuntimeError: NCCL")
    assert "another run's log" not in screen


def test_stopped_and_never_started_are_neither_running_nor_complete(machine):
    assert look(machine).exit_status == 1
    assert "nothing was ever started" in status_screen(look(machine))
    machine.state("stopped", begun=100, ended=iso(machine.now), reason="stopped at step 3, as it was asked to")
    status = look(machine)
    assert status.exit_status == 1
    assert "over: ./scripts/launch_full_training.sh 0" in status.problem and "--resume" not in status.problem
    machine.checkpoint(2, root=machine.root)
    assert (
        "./scripts/launch_full_training.sh 0 --resume"
        in look(machine, here=find_local_state(machine.root, "0")).problem
    )
    shutil.rmtree(machine.root / "models")
    machine.checkpoint(2)
    assert "./scripts/launch_full_training.sh 0 --resume" in look(machine).problem


def test_a_machine_without_the_project(machine):
    machine.there.rmdir()
    assert "run_remote_setup.sh 0" in look(machine).problem


# -- which run


def test_by_hand_without_a_supervisor(machine):
    machine.config("config_test_run.json")
    machine.progress(20, of=50, run=TEST)
    machine.hold(f"models/{TEST}/.training.lock")
    status = look(machine)
    assert (status.verdict, status.phase) == ("running", "Phase 2: Infrastructure Test")
    assert "started by hand" in status_screen(status)
    machine.locks.close()
    assert "ended at step 20 of 50" in look(machine).problem
    machine.progress(50, of=50, run=TEST)
    assert look(machine).verdict == "wrong", "the last step is done, but its checkpoint is not complete"
    machine.checkpoint(50, run=TEST)
    assert look(machine).verdict == "complete"


def test_the_run_that_trains_now_is_shown_and_the_others_are_counted(machine):
    machine.progress(50, of=50, run=TEST, ago=9000)
    machine.state("complete", begun=20000, run=TEST, ended=iso(machine.now - 9000))
    machine.checkpoint(50, run=TEST)
    machine.progress(30)
    machine.hold(f"models/{FULL}/.training.lock")
    status = look(machine)
    assert (status.run, status.verdict) == (FULL, "running")
    assert status.others == {TEST: (1, 0)}


# -- here


def test_checkpoints_here_are_judged_by_manifest_and_sizes(machine):
    running(machine)
    for step in (500, 1000, 1500):
        machine.checkpoint(step)
    for step in (500, 1000):
        folder = machine.checkpoint(step, root=machine.root)
    (folder / "optimizer.pt").write_bytes(b"short")
    (machine.there / "models" / FULL / "checkpoint-2000").mkdir()  # being saved
    status = look(machine, here=find_local_state(machine.root, "0"))
    assert (status.there, status.here, status.missing) == ((500, 1000, 1500), (500,), (1000, 1500))
    screen = status_screen(status)
    assert "there: 500, 1000, 1500 (3); here: 1 of 3, missing 1500\n" in screen
    assert "here, checkpoint-1000: optimizer.pt has 5 bytes, not 12; again:" in screen


def test_the_monitor(machine):
    running(machine)
    reminder = "NOT RUNNING; start it: ./scripts/monitor_checkpoints.sh 0 300"
    assert reminder in status_screen(look(machine, here=find_local_state(machine.root, "0")))
    folder = machine.root / "models" / ".monitor"
    machine.hold_file(folder / "instance-0.lock")
    last = iso(machine.now - 120)
    problem = {"time": last, "what": "no space\x1b[2J left", "solved": False}
    (folder / "instance-0.json").write_text(
        json.dumps(
            {"pid": PID, "started": last, "rounds": 3, "last_round": last, "downloaded": [], "problems": [problem]}
        )
    )
    screen = status_screen(look(machine, here=find_local_state(machine.root, "0")))
    assert "running (process 4711), last round 2 min ago; no space left" in screen
    machine.locks.close()
    assert not find_local_state(machine.root, "0").monitor.running


def test_unreachable_shows_what_is_here_and_cannot_tell(machine):
    machine.checkpoint(500, root=machine.root)
    status = make_status(
        None, find_local_state(machine.root, "0"), machine.now, "the machine cannot be reached: timeout"
    )
    assert status.exit_status == 2
    screen = status_screen(status)
    assert "CANNOT TELL" in screen and "timeout" in screen
    assert f"here: {FULL}: 1" in screen


# -- nothing told does harm

HOSTILE = {
    ".run/state.json": [
        b"",
        b'{"state": "runn',
        b"[1]",
        b"null",
        b'{"state": "running", "pid": "x", "attempts": 7, "restarts": NaN, "started": 12, "output_dir": [1]}',
        b'{"state": "failed", "reason": "\\u001b[2J\\u001b]0;owned\\u0007 no \\u202e", "output_dir": "../../x"}',
        b'{"state": "running", "pid": 1e999, "started": "9999-99-99", "attempts": [{"started": {}}, 5]}',
        b"[" * 100_000,
        b'{"state": "running", "restarts": ' + b"9" * 5000 + b"}",
    ],
    "models/r/.progress.json": [
        b'{"step": NaN}',
        b'{"step": 1e400, "max_steps": 0}',
        b'{"step": 999999999999999999999, "max_steps": 5}',
        b'{"step": -3, "max_steps": -3, "time": "x"}',
        b'{"step": 5, "max_steps": 5, "time": 1e300, "started": -1e300, "started_step": 99}',
        b'{"step": true}',
        b'{"step": 5, "stopped": 7, "warnings": {"a": 1}, "account": [1]}',
        b'{"step": 5, "stopped": "\\u001b[2J\\u001b]0;owned\\u0007", "warnings": [7, "", "\\u001b[2J", "x", "y", "z"]}',
    ],
    "models/r/training_log.jsonl": [
        b'{"step": 1, "loss": Infinity, "gpu": 7}\n\x00\xff\n{"time": 9e99}\n{"step": 2, "time": 3, "loss": "x"',
        b'{"step": 10, "time": 5, "gpu": [null, {"index": -1}, {"index": 1e9}]}\n' * 300,
    ],
    "training.log": [b"\x1b]0;owned\x07\x1b[31mred\x9b2J\r\n\x00\x08\x7f\xc2\x9b2J\n" * 50],
    "config_full_dataset.json": [b'{"training": 7}', b'{"training": {"max_steps": "x"}, "price_per_hour": -Infinity}'],
}


@pytest.mark.parametrize(("name", "which"), [(name, k) for name in HOSTILE for k in range(len(HOSTILE[name]))])
def test_hostile_and_half_written_files_never_break_the_screen(machine, name, which):
    machine.state("failed", begun=100, run="r", reason="\x1b[2Jbad")
    machine.progress(20, run="r")
    machine.write(name, HOSTILE[name][which])
    assert_harmless(look(machine))


def assert_harmless(status):
    screen = status_screen(status)
    lines = screen.split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]|owned|\[2J|nan|inf\b", screen), screen
    json.dumps(as_json(status), allow_nan=False)


def test_names_that_are_none_of_ours_are_left_out(machine):
    for name in ("a\nb", "$(touch X)", "; touch X", "-rf", "..x", "x" * 200):
        (machine.there / "models" / name / "checkpoint-5").mkdir(parents=True)
        (machine.there / "models" / name / "checkpoint-5" / "manifest.json").write_text("{}")
    for name in ("checkpoint-1; touch X", "checkpoint-09", "checkpoint-1\n2", "checkpoint-" + "9" * 40):
        folder = machine.there / "models" / "r" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
    machine.checkpoint(7, run="r")
    report = parse_report(machine.run(GATHER))
    assert {run.name: run.steps for run in report.runs.values()} == {"r": (7,)}
    assert not list(machine.root.rglob("X"))


def test_files_of_any_size_cost_little(machine):
    running(machine)
    for name in ("training.log", f"models/{FULL}/training_log.jsonl", ".run/state.json", "big.json"):
        with machine.write(name, "").open("wb") as file:
            file.truncate(2**42)  # no line end anywhere, and more than anybody reads in a test's time
    answer = machine.run(GATHER)
    assert len(answer) < 1_000_000
    assert_harmless(make_status(parse_report(answer), HERE, machine.now))


def test_an_answer_that_was_cut_off_is_no_answer(machine):
    running(machine)
    answer = machine.run(GATHER)
    assert parse_report(b"Welcome to Ubuntu\n" + answer).supervisor is not None
    for end in (0, 20, len(answer) // 2, len(answer) - 1):
        with pytest.raises(CutOff):
            parse_report(answer[:end])


def test_gpus_and_a_driver_in_trouble(machine):
    machine.state("failed", begun=100, reason="x " * 200)
    machine.write("training.log", "line\n" * 40)
    program = machine.root / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nfor i in 0 1 2 3 4 5 6 7; do echo "$i, 9$i, 62000, 81920, NVIDIA A100"; done\n'
        "echo '8, [N/A], [N/A], [N/A], NVIDIA H100 MIG'\n"
    )
    program.chmod(0o755)
    status = look(machine, PATH=f"{program.parent}:{os.environ['PATH']}")
    assert status.gpus[1] == GpuSample(1, 91, 62000, 81920, "NVIDIA A100")
    assert status.gpus[8].utilization is None
    assert_harmless(status)
    assert "The end of training.log" in status_screen(status), "what is wrong comes before what each GPU does"
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'; exit 18\n")
    status = look(machine, PATH=f"{program.parent}:{os.environ['PATH']}")
    assert "unknown: nvidia-smi says: Failed to initialize NVML" in status_screen(status)


def test_the_screen_fits_when_everything_is_long(machine):
    running(machine, ago=4000)
    here = replace(
        HERE, reached_by="ssh " + "x" * 80, phases=(PhaseRecord("Phase 1 (q)", True, "GO, improvement 7.5% (f)"),) * 2
    )
    status = look(machine, here=here)
    status = replace(
        status,
        gpus=tuple(GpuSample(k, 99, 1, 2, "漢字" * 30) for k in range(12)),
        others={f"run-{k}": (3, 3) for k in range(40)},
        log=("x" * 500,) * 8,
        problem="word " * 100,
    )
    assert_harmless(status)
    assert max(map(len, status_screen(status, width=60).split("\n"))) <= 60
    assert "Phase 1: GO, improvement 7.5%" in status_screen(status)


def test_words():
    assert shorten([]) == "none"
    assert shorten([10, 20]) == "10, 20 (2)"
    assert shorten(range(500, 11500, 500)) == "500 ... 11000 (22)"
    assert [duration(s) for s in (-5, 40, 600, 18420, 400_000)] == ["0 s", "40 s", "10 min", "5 h 07 min", "4 d 15 h"]
    assert plain("a\x1b[31mb\x1b]8;;http://x\x1b\\c\u202ed\te\x00") == "abcd e"
    assert finite(True) is None and finite(float("nan")) is None and finite(10**400) is None and finite("5") is None


def without_nvidia_smi(machine):
    """A PATH with all but nvidia-smi, which the machine that tests run on may have."""
    folder = machine.root / "programs"
    folder.mkdir()
    for name in ("bash", "date", "head", "tr", "cat", "df", "tail", "stat", "flock", "timeout"):
        found = subprocess.run(["bash", "-c", f"type -P {name}"], capture_output=True, text=True).stdout.strip()
        (folder / name).symlink_to(found)
    return str(folder)


# -- as a person runs it, through the real tnr


def run_status(machine, *arguments, **extra):
    return subprocess.run(
        [machine.root / "scripts" / "status.sh", *arguments],
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def test_through_tnr_with_the_exit_status_of_the_answer(machine):
    running(machine)
    result = run_status(machine)
    assert result.returncode == 0, result.stderr
    assert "step 5,000 of 11,300" in result.stdout and "folder instances/0" in result.stdout
    told = json.loads(run_status(machine, "0", "--json").stdout)
    assert (told["step"], told["verdict"], told["exit_status"]) == (5000, "running", 0)
    machine.locks.close()
    assert run_status(machine).returncode == 1
    result = run_status(machine, "7")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr and result.stderr.strip() and not result.stdout


def test_an_instance_that_cannot_be_reached(machine):
    (machine.root / "instances.json").write_text('{"0": {"host": "nobody@127.0.0.1", "port": 1}}')
    machine.checkpoint(500, root=machine.root)
    result = run_status(machine)
    assert result.returncode == 2, result.stdout
    assert "the machine cannot be reached" in result.stdout and f"here: {FULL}: 1" in result.stdout
    (machine.root / "instances.json").write_text("{}")
    result = run_status(machine, SOCRATES_BACKEND="local")
    assert result.returncode == 2 and result.stderr.startswith("error: instance 0: not in "), result.stderr


def test_watch_clears_on_a_terminal_only_and_q_ends_it(machine):
    running(machine)
    primary, secondary = pty.openpty()
    before = termios.tcgetattr(secondary)
    command = [sys.executable, ROOT / "scripts" / "status.py", "0", "--watch", "60"]
    env = environment(SOCRATES_ROOT=str(machine.root), TERM="xterm")
    process = subprocess.Popen(command, cwd=machine.root, stdin=secondary, stdout=secondary, env=env)
    try:
        text = read_until(primary, b"q ends")
        assert b"\x1b[2J" in text
        os.write(primary, b"xq")
        assert process.wait(timeout=PATIENCE) == 130
        assert termios.tcgetattr(secondary) == before
    finally:
        process.kill()
        process.wait()
        os.close(primary)
        os.close(secondary)
    command[-1] = "1"
    with subprocess.Popen(
        command, cwd=machine.root, stdout=subprocess.PIPE, env=env, stdin=subprocess.DEVNULL
    ) as process:
        text = read_until(process.stdout.fileno(), b"Instance 0", times=2)
        process.terminate()
    assert b"\x1b" not in text


def read_until(descriptor, mark, times=1):
    text, deadline = b"", time.monotonic() + PATIENCE
    while text.count(mark) < times:
        assert select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))[0], text
        text += os.read(descriptor, 65536)
    return text
