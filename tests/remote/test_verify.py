"""The guide's nine success criteria: each one met by a good test run, and unmet or unmeasured for its own reasons."""

import contextlib
import io
import json
import shutil
import subprocess
import time

import pytest
from machines import FULL, TEST, Machine, iso
from mirrors import flip_a_bit
from processes import PATIENCE, environment

from socrates.checkpoint import GUIDE_FILES, MANIFEST, write_manifest
from socrates.config import load_config
from socrates.errors import SocratesError
from socrates.files import sha256_file
from socrates.machine import status
from socrates.machine.evidence import first_error
from socrates.phases import phase_records
from socrates.remote import verify
from socrates.remote.verify import FAIL, NOT_DECIDED, PASS, Criterion, check_criteria, checklist, verdict

STEPS = (10, 20, 30, 40, 50)
COMPLETED, THERE, HERE, SIZE, LOSS, USE, MEMORY, CONTENTS, MONITOR = range(9)
LOSSES = (2.456, 2.301, 2.198, 2.134, 2.089)  # the guide's example
PARAMETERS = 100_000
WEIGHTS = 2 * PARAMETERS  # bytes


class TestRun(Machine):
    """An infrastructure test that went as the guide hopes, on two GPUs."""

    __test__ = False

    def __init__(self, root):
        super().__init__(root)
        self.begun = self.now - 1200
        self.state("complete", begun=1200, run=TEST, ended=iso(self.now - 100))
        self.write(".run/lock", "process 4711\n")
        self.write("training_test.log", "Training on 9 rows: 50 steps of 128 examples on 2 GPUs (A100)\n")
        self.progress(50, of=50, run=TEST, ago=100, pace=20)
        self.samples([(20, 30), (95, 96), (94, 97), (96, 92), (97, 95)])
        for step in STEPS:
            self.save(step)
        self.record()

    @property
    def log(self):
        return self.there / "training_test.log"

    def save(self, step, losses=LOSSES, **files):
        contents = {"adapter_model": bytes(WEIGHTS + 900), "optimizer": bytes(2 * WEIGHTS + 900)} | files
        history = [{"step": 10 * k, "loss": loss} for k, loss in enumerate(losses, 1)]
        trainer = {"global_step": step, "max_steps": 50, "log_history": [*history, {"train_runtime": 9}]}
        contents.setdefault("trainer_state", json.dumps(trainer).encode())
        folder = self.checkpoint(step, run=TEST, **contents)
        target = self.root / "models" / TEST / folder.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)

    def again(self, step, **options):
        shutil.rmtree(self.there / "models" / TEST / f"checkpoint-{step}")
        self.save(step, **options)

    def samples(self, uses):
        lines = [
            {"time": self.begun + 100 + 200 * k, "step": 10 * k, "elapsed_s": 200 * k, "loss": 2.0}
            | {"gpu": [{"index": i, "utilization": use} for i, use in enumerate(pair)]}
            for k, pair in enumerate(uses, 1)
        ]
        self.write(f"models/{TEST}/training_log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def record(self, downloaded=STEPS, problems=(), last=0.0):
        value = {"pid": 1, "rounds": 20, "last_round": self.now - last}
        value |= {"downloaded": [[TEST, step] for step in downloaded], "unsolved": list(problems)}
        path = self.root / "models" / ".monitor" / "instance-0.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def run(self, command, **_):
        """The machine's answer, from this process."""
        name, log = TEST, self.log.name
        assert f"machine.status {name} {log} " in command
        output = io.StringIO()
        with contextlib.chdir(self.there), contextlib.redirect_stdout(output):
            status.main(name, log)
        return subprocess.CompletedProcess(command, 0, output.getvalue().encode(), b"")

    def judge(self):
        name = str(self.root / "config_test_run.json")
        return check_criteria(verify.gather_evidence(self, name, load_config(name), time.time()))


@pytest.fixture(scope="module")
def good_run(tmp_path_factory):
    return TestRun(tmp_path_factory.mktemp("verification") / "good")


@pytest.fixture
def run(good_run, tmp_path):
    made = good_run.copy_to(tmp_path / "a place")
    with made.locks:
        yield made


def unmet(criteria):
    return [k for k, criterion in enumerate(criteria) if criterion.met is False]


def unmeasured(criteria):
    return [k for k, criterion in enumerate(criteria) if criterion.met is None]


def said(criterion):
    return "\n".join(criterion.evidence)


def test_a_good_run_passes_in_the_guides_words(run):
    criteria = run.judge()
    text = checklist(criteria)
    guide = [
        "- [x] Training completed 50 steps without errors",
        "- [x] All 5 checkpoints saved on remote",
        "- [x] All 5 checkpoints downloaded locally",
        "- [x] Each checkpoint ~390MB (adapter + optimizer)",
        "- [x] Loss decreased over training",
        "- [x] GPU utilization >80% during training",
        "- [x] No CUDA out-of-memory errors",
        "- [x] Can list checkpoint contents",
        "- [x] Checkpoint monitor ran without errors",
    ]
    assert [line for line in text.split("\n") if line.startswith("- ")] == guide
    assert text.endswith("\n\nPASS")
    assert "\n      Step 10: loss=2.456\n" in text


# -- 1: completed


def test_restarts_are_not_without_errors_nor_is_a_supervisor_that_did_not_see_the_end(run):
    for state, restarts, words in (
        ("complete", 1, "complete, 1 restart"),
        ("failed", 0, "failed, no restarts"),
        ("running", 0, "running, but it is gone, no restarts"),
    ):
        run.state(state, begun=1200, run=TEST, restarts=restarts)
        criteria = run.judge()
        assert unmet(criteria) == [COMPLETED] and f"supervisor: {words}" in said(criteria[COMPLETED])


def test_an_earlier_starts_errors_do_not_count_but_this_ones_do(run):
    earlier = "Traceback (most recent call last):\nRuntimeError: CUDA out of memory\n"
    run.log.write_text(earlier + run.log.read_text())
    run.state("complete", begun=1200, run=TEST, log_offset=len(earlier))
    assert unmet(run.judge()) == []
    run.log.write_text(run.log.read_text() + "[rank1]: Traceback (most recent call last):\n")
    criteria = run.judge()
    assert unmet(criteria) == [COMPLETED]
    assert "training_test.log: [rank1]: Traceback" in said(criteria[COMPLETED])


def test_fewer_steps_than_the_config_says(run):
    trainer = {"global_step": 50, "max_steps": 60, "log_history": [{"step": k, "loss": 3 - k / 99} for k in STEPS]}
    run.again(50, trainer_state=json.dumps(trainer).encode())
    assert unmet(run.judge()) == [COMPLETED]


def test_by_hand_as_in_the_guide_is_judged_without_a_supervisor(run):
    (run.there / ".run" / "state.json").unlink()
    assert unmet(run.judge()) == []
    run.state("failed", begun=10, run=FULL)  # of another run
    assert unmet(run.judge()) == []
    run.log.unlink()
    assert unmeasured(run.judge()) == [COMPLETED, MEMORY]


def test_what_is_an_error_in_a_log():
    trace = "Traceback (most recent call last):"
    assert first_error(["a", "error: no space left"]) == "error: no space left"
    assert first_error(["a", f"[rank0]: {trace}", "  x"]) is not None
    assert first_error(["{'loss': 1}", "warning: errors: 0", "An error: none"]) is None
    assert first_error(["Exception ignored in: <f>", trace, "  ValueError"]) is None


# -- 2 and 3: checkpoints there and here


@pytest.mark.parametrize("harm", ["missing", "no manifest", "flipped"])
def test_a_checkpoint_that_is_not_whole_there(run, harm):
    folder = run.there / "models" / TEST / "checkpoint-30"
    if harm == "missing":
        shutil.rmtree(folder)
    elif harm == "no manifest":
        (folder / MANIFEST).unlink()
    else:
        flip_a_bit(folder / "optimizer.pt")
    criteria = run.judge()
    assert THERE in unmet(criteria)
    assert "checkpoint-30: " in said(criteria[THERE])
    assert "checkpoints 10, 20, 40, 50 (4): every file" in said(criteria[THERE])


@pytest.mark.parametrize("harm", ["missing", "flipped", "another"])
def test_a_checkpoint_that_is_not_whole_here_or_another_one(run, harm):
    folder = run.root / "models" / TEST / "checkpoint-20"
    if harm == "missing":
        shutil.rmtree(folder)
    else:
        (folder / "optimizer.pt").write_bytes(bytes(2 * WEIGHTS + 899) + b"x")
        if harm == "another":
            write_manifest(folder, 2)
    criteria = run.judge()
    assert HERE in unmet(criteria) and THERE not in unmet(criteria)
    assert "checkpoint-20: " in said(criteria[HERE])


def test_a_light_download_counts_if_it_is_of_the_manifest_there(run):
    folder = run.root / "models" / TEST / "checkpoint-20"
    manifest = json.loads((folder / MANIFEST).read_text())
    source = sha256_file(folder / MANIFEST)
    (folder / MANIFEST).write_text(json.dumps(manifest | {"left_out": ["global_step20/x.pt"], "source_sha256": source}))
    assert unmet(run.judge()) == []


def test_the_last_step_is_saved_even_where_it_is_no_multiple(run):
    name = run.root / "config_test_run.json"
    name.write_text(name.read_text().replace('"save_steps": 10', '"save_steps": 20'))
    assert "checkpoints 20, 40, 50 (3): every" in said(run.judge()[THERE])


# -- 4: sizes


@pytest.mark.parametrize("optimizer", [bytes(WEIGHTS), bytes(4 * WEIGHTS + 70_000)], ids=["one moment", "fp32 moments"])
def test_a_checkpoint_that_is_not_what_its_parameters_give(run, optimizer):
    for step in STEPS:
        run.again(step, optimizer=optimizer)
    criteria = run.judge()
    assert unmet(criteria) == [SIZE]
    assert "is not about 2 times the adapter" in said(criteria[SIZE])
    run.again(50)
    assert "differ by more than 1%" in said(run.judge()[SIZE])


def test_a_training_in_fp32_has_an_adapter_in_fp32_and_moments_in_bf16(run):
    name = run.root / "config_test_run.json"
    config = json.loads(name.read_text())
    name.write_text(json.dumps(config | {"training": config["training"] | {"bf16": False}}))
    assert unmet(run.judge()) == [SIZE], "the adapter there is bf16"
    for step in STEPS:
        run.again(step, adapter_model=bytes(2 * WEIGHTS))
    assert unmet(run.judge()) == []


# -- 5: loss


@pytest.mark.parametrize(
    ("losses", "met"),
    [
        ((2.5, 2.0, 2.4, 2.2), False),  # last below first, but the means did not fall
        ((2.4, 2.5, 2.0, 2.45), True),
        ((2.5, 2.4), True),
        ((2.5, 2.3, 2.5), False),
        ((2.5,), None),
        ((2.5, float("nan"), 2.0, 1.0), False),
    ],
)
def test_loss(run, losses, met):
    run.again(50, losses=losses)
    criterion = run.judge()[LOSS]
    assert criterion.met is met, said(criterion)


# -- 6 and 7: GPUs


@pytest.mark.parametrize(
    ("samples", "met"),
    [
        ([(99, 99), (99, 70), (99, 80), (99, 85)], False),  # one idle GPU is not made up for by the other
        ([(1, 1), (80.5, 81)], True),  # the loading does not count
        ([(99, 99), (80, 80)], False),  # is not above 80
        ([(99,), (99,), (99,)], False),  # one GPU, where the config has two processes
        ([(99, 99)], None),
    ],
)
def test_each_gpu_counts_for_itself_without_the_loading(run, samples, met):
    run.samples(samples)
    assert run.judge()[USE].met is met


def test_lines_of_an_earlier_run_into_the_folder_do_not_count(run):
    log = run.there / "models" / TEST / "training_log.jsonl"
    old = json.dumps({"time": run.begun - 9000, "step": 10, "elapsed_s": 5, "gpu": [{"index": 0, "utilization": 1}]})
    log.write_text(f"{old}\n{old.replace('10,', '20,')}\n" + log.read_text())
    assert unmet(run.judge()) == []


def test_without_a_gpu_it_is_not_measured_and_never_ticked(run):
    run.samples([(), (), ()])
    run.log.write_text("Training on 9 rows: 50 steps of 128 examples on 2 CPU processes\n")
    criteria = run.judge()
    assert unmeasured(criteria) == [USE, MEMORY]
    assert verdict(criteria) == NOT_DECIDED
    text = checklist(criteria)
    assert "- [ ] GPU utilization >80% during training (not measured: no GPU in training_log.jsonl)" in text
    assert text.endswith("NOT DECIDED: 2 criteria not measured")


@pytest.mark.parametrize("words", ["torch.OutOfMemoryError: x", "RuntimeError: CUDA out of memory. Tried"])
def test_out_of_memory(run, words):
    run.log.write_text(run.log.read_text() + words + "\x1b[2J\n")
    criteria = run.judge()
    assert unmet(criteria) == [MEMORY]
    assert words in said(criteria[MEMORY]) and "\x1b" not in said(criteria[MEMORY])


# -- 8 and 9


def test_a_file_of_the_guides_list_is_missing(run):
    for root in (run.there, run.root):
        folder = root / "models" / TEST / "checkpoint-10"
        (folder / "training_args.bin").unlink()
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"] = [f for f in manifest["files"] if f["path"] != "training_args.bin"]
        (folder / MANIFEST).write_text(json.dumps(manifest))
    criteria = run.judge()
    assert unmet(criteria) == [CONTENTS]
    assert "there, checkpoint-10: no training_args.bin" in said(criteria[CONTENTS])
    assert all(name in said(criteria[CONTENTS]) for name in GUIDE_FILES)


def test_the_monitors_record(run):
    run.record(downloaded=())  # found intact by a monitor that was started anew
    assert unmet(run.judge()) == []
    run.record(problems=["no space left"])
    assert unmet(run.judge()) == [MONITOR]
    run.record(last=5000)
    assert "no round after the training began" in said(run.judge()[MONITOR])
    run.record(downloaded=STEPS[:3], last=600)  # it ended before the last checkpoints were made
    criteria = run.judge()
    assert unmet(criteria) == [MONITOR]
    assert "checkpoints 40, 50 (2): neither" in said(criteria[MONITOR])
    record = run.root / "models" / ".monitor" / "instance-0.json"
    record.write_text('{"pid": 1, "last_round": "2026-01-01T00:00:00+00:00"}')
    assert "of another version" in run.judge()[MONITOR].why_not
    record.unlink()
    assert unmeasured(run.judge()) == [MONITOR]


# -- the verdict


def test_verdict():
    met, unmet_one, unknown = (Criterion("x", met) for met in (True, False, None))
    assert verdict([met, met]) == PASS
    assert verdict([met, unknown]) == NOT_DECIDED
    assert verdict([met, unknown, unmet_one]) == FAIL
    assert checklist([met, unknown, unmet_one]).endswith("FAIL: 1 of 3 not met: x")


def test_a_training_that_still_runs_is_not_judged(run):
    run.hold(f"models/{TEST}/.training.lock")
    with pytest.raises(SocratesError, match="still running"):
        run.judge()


# -- as a person runs it, through the real tnr


def verify_test_run(run, *arguments):
    return subprocess.run(
        [run.root / "scripts" / "verify_test_run.sh", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def test_through_tnr_the_verdict_is_printed_and_recorded(run):
    path = run.root / "evaluation_results" / TEST / "verification.json"
    result = verify_test_run(run)
    assert result.returncode == 0, result.stderr + result.stdout
    assert result.stdout.endswith("\n\nPASS\n")
    assert phase_records(run.root)[1].passed is True
    record = json.loads(path.read_text())
    assert (record["verdict"], record["instance"], record["config"]) == ("PASS", "0", "config_test_run.json")
    assert [c["met"] for c in record["criteria"]] == [True] * 9
    assert abs(time.mktime(time.strptime(record["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.time()) < 60

    (run.root / "models" / TEST / "checkpoint-20" / "adapter_model.safetensors").write_bytes(b"")
    assert verify_test_run(run, "0").returncode == 1
    assert json.loads(path.read_text())["verdict"] == "FAIL"
    assert phase_records(run.root)[1].passed is False


def test_an_older_record_stays_where_the_test_never_ran_or_nothing_can_be_asked(run):
    record = run.root / "evaluation_results" / TEST / "verification.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"verdict": "PASS"}')

    def refused():
        result = verify_test_run(run)
        assert result.returncode == 2 and result.stderr.startswith("error: "), result
        assert phase_records(run.root)[1].passed is True
        return result.stderr

    for path in (run.there / "models", run.there / ".run"):
        shutil.rmtree(path)
    run.log.unlink()
    assert "was never started on instance 0" in refused()
    shutil.rmtree(run.there)
    assert "instance 0 is not set up" in refused()
    (run.root / "instances.json").write_text('{"0": {"host": "nobody@127.0.0.1", "port": 1}}')
    refused()
