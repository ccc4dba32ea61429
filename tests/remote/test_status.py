"""One screen of the truth: from folders as training machines leave them, and from machines that send anything."""

import json
import os
import re
import subprocess
import time
from dataclasses import asdict, replace

import pytest
from machines import FULL, HERE, TEST, Machine, iso, status_of, text_of
from processes import PATIENCE, environment

from socrates.errors import SocratesError, plain
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.machine_report import NotSetUp, OtherVersion, read_report
from socrates.remote.status import add_report, find_local_status, find_status, shorten
from socrates.telemetry.gpus import GpuSample
from socrates.telemetry.machine_report import SCHEMA, WRONG, MachineReport


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch):
    """The machine that tests run on may have an nvidia-smi."""
    monkeypatch.setattr("socrates.machine.status.query_gpus", list)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path / "a place")
    with made.locks:
        yield made


def look(machine, now=None, here=HERE):
    return status_of(machine.there, here, now)


def running(machine, step=5000, pace=10, ago=5, **more):
    machine.progress(step, pace=pace, ago=ago, **more)
    machine.state(begun=ago + pace * step + 595)
    machine.hold(".run/lock")
    machine.hold(f"models/{FULL}/.training.lock")


# -- how far, until when, for how much


def test_a_running_training(machine):
    running(machine, step=5000, pace=10)
    status = look(machine)
    assert (status.verdict, status.exit_status, status.problem) == ("running", 0, None)
    r = status.report
    assert (r.run, r.step, r.max_steps, r.tokens_per_second) == (FULL, 5000, 11300, 8000)
    assert r.seconds_per_step == pytest.approx(10)
    assert r.seconds_left == pytest.approx(63000 - 5, abs=5)
    assert r.loss == pytest.approx(2.5 - 5000 / 11300)
    screen = text_of(status)
    assert "Phase 3: Full Training (socrates-qwen-full-dataset)" in screen
    assert "step 5,000 of 11,300 (44.2%)" in screen
    assert "Instance 0: RUNNING" in screen


def test_times_are_shown_by_this_computers_clock(machine):
    running(machine)
    begun = 50550 + machine.now % 60  # at half a minute: the clocks' seconds change no minute that is shown
    machine.state(begun=begun)
    ours = time.time() + 3600  # the machine's clock is an hour behind
    status = look(machine, now=ours)
    assert status.problem is None, "an hour's difference of clocks is no standstill"
    ends = time.strftime("%a %d %b %H:%M", time.localtime(ours + status.report.seconds_left))
    since = time.strftime("%a %d %b %H:%M", time.localtime(machine.now + 3600 - begun))
    assert f"since {since}; about 17 h 30 min left, ends {ends}" in text_of(status)


def test_money_is_the_trainings_own_count_of_all_attempts_and_the_idle_time_since(machine):
    account = {"run": "r", "attempts": 2, "seconds": 75000, "usd": 150.0}
    running(machine, step=5000, told={"account": account}, logged={"eval_loss": 0.51})
    r = look(machine).report
    assert r.spent_usd == pytest.approx(150 + 7.2 * 5 / 3600, abs=0.02)
    assert r.expected_usd == pytest.approx(150 + 7.2 * 63000 / 3600, abs=0.1)
    screen = text_of(look(machine))
    assert "$150.01 so far, about $276.00 at the run's end; $7.20 an hour" in screen
    assert "(on evaluation rows 0.51); 8,000 tokens a second, 10 s a step" in screen
    machine.locks.close()
    machine.state("complete", begun=58000, ended=iso(machine.now - 7200))
    machine.progress(5000, ago=7210, told={"account": account | {"seconds": 150000, "usd": 300.0}})
    status = look(machine)
    assert status.report.spent_usd == pytest.approx(314.42, abs=0.02) and status.report.expected_usd is None
    assert "…" not in text_of(status), "no line is cut off"


def test_what_is_not_known_says_so_and_is_never_zero(machine):
    machine.state(begun=60)
    machine.hold(".run/lock")
    status = look(machine)
    r = status.report
    assert status.verdict == "running"
    assert (r.step, r.loss, r.spent_usd, r.seconds_left) == (None,) * 4
    screen = text_of(status)
    assert "Progress     unknown: no step yet: it loads the model and the data" in screen
    assert "loss unknown" in screen and "time left unknown" in screen
    assert "Money        unknown: nothing counted yet, or no price_per_hour" in screen
    assert "GPUs         unknown: no nvidia-smi" in screen
    assert "…" not in screen, "no line is cut off"
    assert not re.search(r"\b0(\.0+)?%|\$0\.00|loss 0\b", screen)


# -- what is wrong


@pytest.mark.parametrize(
    ("quiet", "pace", "wrong"), [(800, 10, False), (1000, 10, True), (1000, 200, False), (2100, 200, True)]
)
def test_a_standstill_is_15_minutes_or_10_steps_whichever_is_longer(machine, quiet, pace, wrong):
    running(machine, step=200, ago=quiet, pace=pace)
    status = look(machine)
    assert (status.verdict == "wrong") == wrong
    assert ("no progress for" in text_of(status)) == wrong
    assert (status.report.seconds_left is None) == wrong, "a training that stands still has no end to tell"


def test_loading_a_model_is_no_standstill_but_an_hour_of_it_is(machine):
    machine.state(begun=1800)
    machine.hold(".run/lock")
    assert look(machine).verdict == "running"
    machine.state(begun=4000)
    assert "no step for 67 min" in look(machine).problem


def test_after_a_restart_old_progress_neither_counts_nor_alarms(machine):
    machine.progress(700, ago=1200)
    machine.checkpoint(500)
    attempts = [{"started": iso(machine.now - ago), "from_step": step} for ago, step in ((9000, 0), (1190, 500))]
    machine.state(begun=9000, attempts=attempts, restarts=1)
    machine.hold(".run/lock")
    status = look(machine)
    assert (status.verdict, status.report.step) == ("running", 500)
    assert "1 restart" in text_of(status)


def test_what_the_training_warns_of_is_a_problem_while_it_holds(machine):
    warnings = ["the loss is not a number, since step 20: stop it and go on", "GPU 2 has been idle"]
    running(machine, told={"warnings": warnings})
    status = look(machine)
    assert (status.verdict, status.exit_status) == ("wrong", 1)
    screen = text_of(status)
    assert "SOMETHING IS WRONG" in screen and "warning: the loss is not a number, since step 20" in screen
    assert "warning: GPU 2 has been idle" in screen and status.report.seconds_left, "it trains on"
    machine.state(begun=90000, attempts=[{"started": iso(machine.now - 2), "from_step": 4500}])
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


def test_the_way_on_names_the_files_of_the_run(machine):
    machine.checkpoint(4321)
    ended = iso(machine.now - 9)
    machine.state("failed", begun=60000, ended=ended, reason="it died", config="c.json", deepspeed="d;reboot")
    assert look(machine).problem.endswith("_training.sh 0 --resume \\\n  --config c.json --deepspeed 'd;reboot'")


def test_a_dead_supervisor_is_not_running_whatever_its_record_says(machine):
    machine.progress(5000)
    machine.state(begun=50010)
    machine.checkpoint(4500)
    machine.write(".run/lock", f"process {os.getpid()} since ever\n")  # a living pid, but nobody holds the lock
    status = look(machine)
    assert status.exit_status == 1 and status.report.seconds_left is None
    assert "the supervisor is gone" in status.problem and "--resume" in status.problem
    machine.hold(f"models/{FULL}/.training.lock")
    status = look(machine)
    assert status.exit_status == 1 and status.report.seconds_left
    assert "the supervisor is gone" in status.problem and "the training runs" in status.problem


def test_failed_tells_the_reason_and_the_end_of_the_log(machine):
    machine.progress(5000)
    machine.state("failed", begun=60000, ended=iso(machine.now - 9), reason="it does not get further")
    with machine.write("training.log", "").open("wb") as file:
        file.truncate(2**42)  # so much is not read
        file.seek(0, os.SEEK_END)
        file.write((b"all well " * 20 + b"\n") * 50 + b"Traceback (most recent call last):\nRuntimeError: NCCL\n")
    machine.write("training_test.log", "another run's log\n")
    screen = text_of(look(machine))
    assert "it does not get further" in screen
    assert screen.endswith("Traceback (most recent call last):\n  RuntimeError: NCCL")
    assert "another run's log" not in screen


def test_stopped_and_never_started_are_neither_running_nor_complete(machine):
    assert look(machine).exit_status == 1
    assert "nothing was ever started" in text_of(look(machine))
    machine.state("stopped", begun=100, ended=iso(machine.now), reason="stopped at step 3, as it was asked to")
    status = look(machine)
    assert status.exit_status == 1
    assert "over: ./scripts/launch_full_training.sh 0" in status.problem and "--resume" not in status.problem
    machine.checkpoint(2, root=machine.root)
    assert "_training.sh 0 --resume" in look(machine, here=find_local_status(machine.root, "0")).problem


# -- which run


def test_by_hand_without_a_supervisor(machine):
    machine.progress(20, of=50, run=TEST)
    machine.hold(f"models/{TEST}/.training.lock")
    status = look(machine)
    assert (status.verdict, status.report.run) == ("running", TEST)
    assert "started by hand" in text_of(status)
    machine.locks.close()
    assert "ended at step 20 of 50" in look(machine).problem
    machine.progress(50, of=50, run=TEST)
    assert look(machine).verdict == "wrong", "the last step is done, but its checkpoint is not complete"
    machine.checkpoint(50, run=TEST)
    assert look(machine).verdict == "complete"


def test_the_run_that_trains_now_is_shown(machine):
    machine.progress(50, of=50, run=TEST, ago=9000)
    machine.state("complete", begun=20000, run=TEST, ended=iso(machine.now - 9000))
    machine.checkpoint(50, run=TEST)
    machine.progress(30)
    machine.hold(f"models/{FULL}/.training.lock")
    status = look(machine)
    assert (status.report.run, status.verdict) == (FULL, "running")


# -- here


def test_checkpoints_here_are_judged_by_manifest_and_sizes(machine):
    running(machine)
    for step in (500, 1000, 1500):
        machine.checkpoint(step)
    for step in (500, 1000):
        folder = machine.checkpoint(step, root=machine.root)
    (folder / "optimizer.pt").write_bytes(b"short")
    (machine.there / "models" / FULL / "checkpoint-2000").mkdir()  # being saved
    status = look(machine, here=find_local_status(machine.root, "0"))
    assert status.report.checkpoints[FULL] == (500, 1000, 1500)
    screen = text_of(status, width=200)
    assert "there: 500, 1000, 1500 (3); here: 1 of 3, missing 1500 (1)" in screen
    assert re.search(r"checkpoint-1000: optimizer.pt has .*; again: ./scripts/download_checkpoint.sh 1000", screen)


def test_the_monitor(machine):
    running(machine)
    reminder = "NOT RUNNING; start it: ./scripts/monitor_checkpoints.sh 0 300"
    assert reminder in text_of(look(machine, here=find_local_status(machine.root, "0")))
    folder = machine.root / "models" / ".monitor"
    machine.hold_file(folder / "instance-0.lock")
    record = {"pid": 4711, "rounds": 3, "last_round": machine.now - 120, "unsolved": ["no space\x1b[2J left\nhere"]}
    (folder / "instance-0.json").write_text(json.dumps(record))
    screen = text_of(look(machine, here=find_local_status(machine.root, "0")))
    assert "running (process 4711), last round 2 min ago; no space left here" in screen
    record["last_round"] = iso(machine.now)  # as an earlier version wrote it
    (folder / "instance-0.json").write_text(json.dumps(record))
    screen = text_of(look(machine, here=find_local_status(machine.root, "0")))
    assert "record unreadable or of another version: start it again\n" in screen + "\n"
    machine.locks.close()
    assert not find_local_status(machine.root, "0").monitor.running


# -- nothing that is sent does harm

HOSTILE_TEXT = "\x1b[2J\x1b]0;owned\x07 red\x9b2J no \u202e\r\n\x00\x08"


def report_with(**changes):
    """The answer of a machine, with other values."""
    report = MachineReport(SCHEMA, 1.8e9, WRONG, "failed", "no\nmore", run="r", log_name="x.log", log=("a", "b"))
    return json.dumps({**asdict(report), **changes}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"state": HOSTILE_TEXT, "problem": HOSTILE_TEXT * 9, "run": HOSTILE_TEXT, "log": [HOSTILE_TEXT] * 5000},
        {"log_name": "x" * 5000, "config": HOSTILE_TEXT, "verdict": HOSTILE_TEXT},
        {"step": 10**12, "max_steps": 10**12, "seconds_left": 1e10, "started": -1e10, "time": 1e10},
        {"loss": 1e9, "spent_usd": 1e10, "price_per_hour": 1e10, "max_steps": 0, "step": 5},
        {"checkpoints": {HOSTILE_TEXT: [1], **{f"run-{k}": list(range(40)) for k in range(40)}}},
        {"gpus": [asdict(GpuSample(1, None, 1, None, "漢字" * 30))] * 40},
    ],
)  # fmt: skip
def test_whatever_a_machine_sends_the_screen_stays_one(changes):
    assert_harmless(add_report(replace(HERE, time=time.time()), read_report(report_with(**changes), "0")))


def assert_harmless(status):
    for width in (100, 60, 10):
        lines = text_of(status, width).split("\n")
        assert len(lines) <= 24
        assert max(map(len, lines)) <= width
    screen = text_of(status)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]|owned|\[2J|nan|inf\b", screen), screen


@pytest.mark.parametrize(
    "changes",
    [{"step": "5"}, {"step": 1e9}, {"loss": [1]}, {"loss": True}, {"loss": 10**400}, {"active": 1}, {"time": 1e15},
     {"gpus": [{"index": 1}]}, {"checkpoints": {"r": [-(10**16)]}}, {"evidence": 5}],
)  # fmt: skip
def test_what_is_no_report_is_refused(changes):
    with pytest.raises(SocratesError, match="its answer is no report"):
        read_report(report_with(**changes), "0")


def test_an_answer_that_was_cut_off_is_no_answer_and_a_greeting_is_none(machine):
    answer = report_with()
    assert read_report(b"Welcome to Ubuntu\n" + answer + b"\n", "0").run == "r"
    for cut in (b"", answer[:20], answer[:-1], b"Welcome\n", answer.replace(b'"r"', b'"' + b"r" * 2**23 + b'"')):
        with pytest.raises(Unreachable, match="cut off"):
            read_report(cut, "0")
    assert read_report(report_with(loss=float("nan")), "0").loss is None
    report = read_report(report_with(state="a\nb"), "0")
    assert (report.problem, report.state) == ("no\nmore", "a b"), "lines are kept where they are meant"


def test_another_version_says_so_and_how_to_bring_it_up_to_date():
    with pytest.raises(
        OtherVersion, match=r"another version than here\n.*tnr scp 0 scripts/ ~/socrates-training/scripts/"
    ):
        read_report(report_with(schema=SCHEMA + 1, more=1), "0")


@pytest.mark.parametrize("content", [b"", b'{"state": "runn', b"[1]", b"\xff", b'{"state": "running", "attempts": 7}'])
def test_files_that_a_machine_lost_are_no_more_than_that(machine, content):
    machine.progress(20, run="r")
    machine.write("models/r/.progress.json", content)
    machine.write("models/r/training_log.jsonl", content)
    status = look(machine)
    assert status.exit_status
    assert_harmless(status)
    machine.write(".run/state.json", content)
    with pytest.raises(SocratesError, match=r"^\.run/state\.json: "):
        look(machine)


def test_gpus_on_one_line(machine, monkeypatch):
    gpus = [GpuSample(0, 90, 61000, 81920, "NVIDIA A100"), GpuSample(1, 91, 62000, 81920, "NVIDIA A100")]
    gpus.append(GpuSample(8, None, None, None, "NVIDIA H100 MIG"))
    monkeypatch.setattr("socrates.machine.status.query_gpus", lambda: gpus)
    assert "3 x NVIDIA A100: busy now 90% 91% ?; up to 60.5 of 80.0 GiB" in text_of(look(machine))


def test_the_screen_fits_when_everything_is_long(machine):
    running(machine, ago=4000)
    status = look(machine)
    status = replace(status, problem="word " * 100, report=replace(status.report, log=("x" * 500,) * 8))
    assert_harmless(status)
    path = "/a-path-without-end" * 8
    lines = text_of(replace(status, instance="i" * 64, problem=path), 60).split("\n")
    assert re.fullmatch(r"Instance i{34} \w+ \d\d \w+ \d\d:\d\d", lines[0]), "the time stays"
    assert path in "".join(lines), "a path is wrapped, not cut"


def test_words():
    assert [shorten([]), shorten([10, 20])] == ["none", "10, 20 (2)"]
    assert shorten(range(500, 11500, 500)) == "500 ... 11000 (22)"
    assert plain("a\x1b[31mb\x1b]8;;http://x\x1b\\c\u202ed\te\x00") == "abcd e"
    assert plain("\u3164a\u034f\u115f\u1160b") == "ab", "letters that show nothing"


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
    assert "step 5,000 of 11,300" in result.stdout
    machine.checkpoint(500, run="my run")
    assert "models/my run/checkpoint-500 is not here and has no name to fetch it by" in run_status(machine).stdout
    machine.locks.close()
    machine.state("failed", begun=60000, ended=iso(machine.now - 9))
    assert run_status(machine).returncode == 1
    (machine.there / "socrates").unlink()
    result = run_status(machine)
    assert result.returncode == 1 and "is not set up" in result.stdout
    assert "Set it up: ./run_remote_setup.sh 0" in result.stdout
    result = run_status(machine, "7")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr and result.stderr.strip() and not result.stdout


@pytest.mark.parametrize("error", [Unreachable, NotSetUp])
def test_the_time_is_when_the_machine_was_given_up(machine, monkeypatch, error):
    clock = iter([1e9, 2e9])

    def ask(instance):
        raise error("no answer")

    monkeypatch.setattr("socrates.remote.status.time.time", lambda: next(clock))
    monkeypatch.setattr("socrates.remote.status.ask_machine", ask)
    assert find_status(Instance(machine.root, "0")).time == 2e9


def test_an_instance_that_cannot_be_reached(machine):
    (machine.root / "instances.json").write_text('{"0": {"host": "nobody@127.0.0.1", "port": 1}}')
    machine.checkpoint(500, root=machine.root)
    result = run_status(machine)
    assert result.returncode == 2, result.stdout
    assert (
        "instance 0 (nobody@127.0.0.1 port 1) cannot be reached" in result.stdout
        and f"here: {FULL}: 1" in result.stdout
    )
    (machine.root / "instances.json").write_text("{}")
    result = run_status(machine, SOCRATES_BACKEND="local")
    assert result.returncode == 2 and result.stderr.startswith("error: instance 0: not in "), result.stderr
