"""In which way a run goes on from which checkpoint, without a training: what is told, refused, and kept."""

import json
from types import SimpleNamespace

import pytest

from socrates.checkpoint import GUIDE_FILES, MANIFEST, write_manifest
from socrates.config import parse_config
from socrates.errors import SocratesError
from socrates.files import write_json
from socrates.rehearsal.rehearsal import rehearsal_config
from socrates.training import convert_state as loading
from socrates.training.resume import Resumption, Way, choose_checkpoint, run_identity

SHARD = "shard.pt"


class Run:
    """A run's settings and output folder."""

    def __init__(self, output_dir):
        self.output_dir = output_dir

    def record(self, **training):
        config = rehearsal_config("m", "d", steps=9, save_steps=3) | {"output_dir": str(self.output_dir)}
        config["training"] |= {"global_batch_size": 16, "num_processes": 2, **training}
        return {"config": config, "prompt_fingerprint": "p", "data": {"train_sha256": "d"}}

    def save(self, step, ranks=2):
        folder = self.output_dir / f"checkpoint-{step}"
        (folder / f"global_step{step}").mkdir(parents=True)
        for name in (*GUIDE_FILES, f"global_step{step}/{SHARD}"):
            (folder / name).write_text("x")
        write_json(folder / "training_config.json", self.record(num_processes=ranks))
        write_manifest(folder, ranks)
        return folder

    def lose_shard(self, step):
        folder = self.save(step)
        (folder / f"global_step{step}" / SHARD).unlink()
        return folder

    def choose(self, resume="auto", weights_only=False, data=None, **training):
        record = self.record(**training)
        record["data"] |= data or {}
        return choose_checkpoint(parse_config(record["config"], "c"), record, resume, weights_only)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


def test_on_as_many_processes_it_goes_on_from_the_newest_exactly_and_has_nothing_to_say(run):
    assert run.choose() is None, "it starts anew"
    run.save(3)
    folder = run.save(12)
    assert run.choose() == run.choose(weights_only=True) == Resumption(folder, 12, Way.EXACT)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"learning_rate": 0.5}, r"training\.learning_rate: 0\.003 -> 0\.5"),
        ({"global_batch_size": 32}, r"training\.global_batch_size: 16 -> 32"),
        ({"data": {"train_sha256": "other"}}, "train_sha256: 'd' -> 'other'"),
        ({"data": {"chosen": {"rows": 9, "sha256": "other"}}}, "chosen: None -> 'other'"),
        # another tokenizer under the same name
        ({"data": {"tokenized": "tokenized-1"}}, r"(?s)tokenized: .*tokenized-1.*the version that made the checkpoint"),
    ],
)
def test_a_run_with_other_settings_or_data_never_goes_on_from_it(run, changed, message):
    run.save(3)
    with pytest.raises(SocratesError, match=message):
        run.choose(**changed)


def test_an_older_checkpoint_by_path_sets_the_newer_ones_aside(run, capsys):
    older, newer = run.save(3), run.save(6)
    assert run.choose(str(older)).checkpoint == older
    assert not newer.exists() and list((run.output_dir / "set-aside").glob("checkpoint-6-*/manifest.json"))
    assert f"Passed over {newer}" in capsys.readouterr().out


@pytest.mark.parametrize("before, now, processes", [(2, 1, "1 process"), (1, 2, "2 processes")])
def test_another_number_of_processes_is_told(run, before, now, processes):
    folder = run.save(3, ranks=before)
    chosen = run.choose(num_processes=now)
    assert (chosen.checkpoint, chosen.way) == (folder, Way.OTHER_RANKS)
    (note,) = chosen.notes
    assert note.startswith(f"Resuming on {processes} a run of {before}: ") and "dropout" in note


FREE = {"eval_steps": 10, "eval_examples": 9, "report_to": "tensorboard", "save_steps": 4}
HARDWARE = {"micro_batch_tokens": 4096, "checkpointed_layers": 3, "attn_implementation": "sdpa", "liger_kernels": True}


@pytest.mark.parametrize("changed, told", [(FREE, ()), (HARDWARE, HARDWARE)])
def test_what_changes_nothing_of_what_is_learned_may_change_and_hardware_is_told(run, changed, told):
    run.save(3)
    chosen = run.choose(**changed)
    assert chosen.way is Way.EXACT and len(chosen.notes) == len(told)
    assert all(any(f"training.{name}: " in note for note in chosen.notes) for name in told)
    assert run_identity(run.record(**changed)) == run_identity(run.record()), "and its cost is that of one run"


def test_a_date_in_the_prompt_is_compared_through_the_prompt_only_so_that_older_checkpoints_go_on(run):
    folder, record, older = run.save(3), run.record(), run.record()
    older["config"]["prompt"] = {"system_message": None}
    write_json(folder / "training_config.json", older)
    write_manifest(folder, 2)
    record["config"]["prompt"] = {"system_message": None, "date": "2024-07-26"}
    assert choose_checkpoint(parse_config(record["config"], "c"), record, "auto").checkpoint == folder
    assert run_identity(record) == run_identity(older)


def test_weights_are_not_forgotten_for_the_base_model_nor_taken_unasked(run):
    folder = run.lose_shard(3)
    with pytest.raises(SocratesError) as refusal:
        run.choose()
    for part in (f"global_step3/{SHARD} is missing", "--resume-weights-only", "AdamW starts afresh"):
        assert part in str(refusal.value)
    assert folder.exists(), "nothing is moved"
    with pytest.raises(SocratesError, match=r"training\.learning_rate"):
        run.choose(weights_only=True, learning_rate=0.5)
    chosen = run.choose(weights_only=True)
    assert (chosen.checkpoint, chosen.way) == (folder, Way.WEIGHTS)
    (note,) = chosen.notes
    assert f"global_step3/{SHARD} is missing" in note and "lost: the optimizer's state" in note


def test_by_path_it_is_refused_or_taken_alike(run):
    folder, damaged = run.lose_shard(3), run.save(6)
    (damaged / "optimizer.pt").unlink()
    with pytest.raises(SocratesError, match=r"cannot resume from it: optimizer\.pt is missing"):
        run.choose(str(damaged))
    with pytest.raises(SocratesError, match="no such folder"):
        run.choose(str(run.output_dir / "absent"))
    with pytest.raises(SocratesError, match=r"(?s)is missing.*--resume-weights-only goes on from them; lost would be"):
        run.choose(str(folder))
    assert run.choose(str(folder), weights_only=True).way is Way.WEIGHTS


def test_an_older_complete_one_goes_before_the_weights_of_a_newer_unless_asked(run, capsys):
    complete, newer = run.save(3), run.lose_shard(6)
    assert run.choose(weights_only=True).checkpoint == newer
    assert run.choose().checkpoint == complete
    told = capsys.readouterr().out
    assert f"Passed over {newer}: " in told and "its weights are intact: --resume-weights-only" in told
    assert list((run.output_dir / "set-aside").glob("checkpoint-6-*"))


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "trainer_state.json", "training_config.json", MANIFEST])
def test_without_its_weights_or_their_step_nothing_goes_on(run, name):
    folder = run.save(3)
    (folder / name).unlink()
    assert run.choose(weights_only=True) is None and not folder.exists(), "set aside"


@pytest.mark.slow
def test_shards_that_cannot_be_converted_are_told_in_our_words(run):
    folder = run.save(3)
    (folder / "latest").write_text("global_step3")
    (folder / "scheduler.pt").write_text("x")
    write_json(folder / "trainer_state.json", {"global_step": 3, "max_steps": 9})
    args = SimpleNamespace(per_device_train_batch_size=16, world_size=1)
    with pytest.raises(SocratesError, match="DeepSpeed could not convert its optimizer's state"):
        loading._make_scratch(Resumption(folder, 3, Way.OTHER_RANKS), args, run.output_dir)
    assert json.loads((folder / "trainer_state.json").read_text()) == {"global_step": 3, "max_steps": 9}
