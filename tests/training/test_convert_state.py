"""A run that goes on on other hardware, or without its optimizer's shards: DeepSpeed's launcher, CPU ranks."""

import functools
import json
import shutil
from dataclasses import replace

import pytest
from processes import assert_refused, cosine_rate, logged, train, train_and_kill
from shards import flat_adapter, flat_state
from trainings import LAST, PEAK, RUN, STEPS, WARMUP_RATIO, WITNESS, change, copy_of, finish, make_workplace

from socrates.checkpoint import MANIFEST, find_damage, manifest_record, read_manifest, write_manifest
from socrates.files import write_json
from socrates.remote.fetch import LIGHT_FILES

FROM = 3
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Gives the folder of a watched run that nothing happened to, by ranks and ZeRO stage; each is made once."""
    base = make_workplace(tmp_path_factory.mktemp("elsewhere") / "base", people=10)

    @functools.cache
    def run(ranks, stage):
        folder = copy_of(base, f"{ranks}-{stage}")
        change(folder, {"num_processes": ranks})
        deepspeed = json.loads((folder / "deepspeed_config.json").read_text())
        write_json(folder / "deepspeed_config.json", deepspeed | {"zero_optimization": {"stage": stage}})
        finish(folder, ranks=ranks, script=WITNESS)
        return folder

    return run


def stopped(undisturbed, folder, ranks):
    """A project whose run got to step 3 and is to go on, on some other number of ranks."""
    shutil.copytree(undisturbed, folder, ignore=shutil.ignore_patterns("witness", "checkpoint-6", "checkpoint-9"))
    change(folder, {"num_processes": ranks})
    return folder, folder / RUN / f"checkpoint-{FROM}"


def column(folder, name, after=FROM):
    return [line[name] for line in logged(folder, LAST) if "loss" in line and line["step"] > after]


def witnessed(folder):
    """Step -> the examples that all ranks saw in it; and step -> the learning rate that the optimizer used."""
    examples, rates = {}, {}
    for path in (folder / "witness").glob("rank-*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            examples.setdefault(line["step"], []).extend(line["examples"])
            rates[line["step"]] = line["rate"]
    return {step: sorted(found) for step, found in examples.items()}, rates


def assert_continuous(folder, undisturbed):
    """The steps after the resumption: numbered on, at the formula's rates, over the undisturbed run's examples."""
    expected = {step: cosine_rate(step, STEPS, WARMUP_RATIO, PEAK) for step in range(FROM + 1, STEPS + 1)}
    assert column(folder, "step") == list(expected)
    assert column(folder, "learning_rate") == pytest.approx(list(expected.values()), rel=1e-12)
    examples, rates = witnessed(folder)
    assert rates == pytest.approx(expected)
    expected, _ = witnessed(undisturbed)
    assert examples == {step: found for step, found in expected.items() if step > FROM}
    assert all(len(found) == 16 for found in examples.values())


@pytest.fixture(scope="module")
def moved(undisturbed, tmp_path_factory):
    """Gives a run that went on from step 3 on another number of ranks, and its output."""

    @functools.cache
    def run(before, now, stage):
        folder, _ = stopped(undisturbed(before, stage), tmp_path_factory.mktemp("moved") / "project", now)
        return folder, finish(folder, ranks=now, script=WITNESS)

    return run


@pytest.mark.parametrize("before, now, stage", [(2, 1, 2), (1, 2, 1)])
def test_on_another_number_of_ranks_it_goes_on_with_the_optimizers_state(undisturbed, moved, before, now, stage):
    import torch

    source, (folder, log) = undisturbed(before, stage), moved(before, now, stage)
    assert f"a run of {before}: step, learning rate, the optimizer's state and the examples of each step go on" in log
    assert_continuous(folder, source)
    assert column(folder, "loss") == pytest.approx(column(source, "loss"), abs=1e-2)

    checkpoint = folder / RUN / f"checkpoint-{FROM}"
    assert find_damage(checkpoint) is None and read_manifest(checkpoint).num_processes == before
    saved, names, before_states = flat_state(checkpoint)
    loaded, loaded_names, now_states = flat_state(folder / "witness/loaded")
    assert {state[0]["step"].item() for state in (*before_states, *now_states)} == {FROM} and names == loaded_names
    assert len(before_states) == before and len(now_states) == now and len(saved) == 3
    assert all(torch.equal(values, loaded[name]) for name, values in saved.items())


def test_what_it_saves_then_is_ordinary_and_goes_on_exactly(moved, tmp_path):
    import torch

    there, _ = moved(2, 1, 2)
    folder = tmp_path / "project"
    shutil.copytree(there, folder, ignore=shutil.ignore_patterns("checkpoint-9"))
    checkpoint = folder / RUN / "checkpoint-6"
    assert read_manifest(checkpoint).num_processes == 1
    assert "checkpoint" not in json.loads((checkpoint / "training_config.json").read_text())["deepspeed"]
    states = torch.load(checkpoint / "global_step6/mp_rank_00_model_states.pt", weights_only=False)
    assert not states["ds_config"].get("checkpoint")
    log = finish(folder, ranks=1)
    assert "Resuming from models/run/checkpoint-6\n{'loss'" in log.replace("\n\n", "\n") and "Converting" not in log
    for name in ("loss", "grad_norm", "learning_rate"):
        assert column(folder, name) == column(there, name), "every digit"


def test_killed_while_the_state_is_converted_the_same_command_makes_it_anew(undisturbed, moved, tmp_path):
    folder, checkpoint = stopped(undisturbed(2, 2), tmp_path / "project", 1)
    train_and_kill(folder, "Converting the optimizer's state", ranks=1)
    assert not (folder / RUN / "checkpoint-6").exists() and find_damage(checkpoint) is None
    log = finish(folder, ranks=1)
    assert "Converting the optimizer's state" in log and find_damage(checkpoint) is None
    assert column(folder, "loss") == column(moved(2, 1, 2)[0], "loss"), "as if it had not been killed"


def lose_the_shards(checkpoint):
    shutil.rmtree(checkpoint / f"global_step{FROM}")


def make_light(checkpoint):
    """What ./scripts/download_checkpoint.sh --light brings."""
    whole = read_manifest(checkpoint)
    left_out = tuple(path for path in whole.files if path not in LIGHT_FILES)
    for path in left_out:
        (checkpoint / path).unlink()
    (checkpoint / f"global_step{FROM}").rmdir()
    files = {path: entry for path, entry in whole.files.items() if path in LIGHT_FILES}
    light = replace(whole, files=files, left_out=left_out, source_sha256="0" * 64)
    write_json(checkpoint / MANIFEST, manifest_record(light))


@pytest.mark.parametrize("lose, now", [(lose_the_shards, 2), (make_light, 1)])
def test_without_its_shards_it_goes_on_when_asked_to(undisturbed, tmp_path, lose, now):
    import torch
    from safetensors.torch import load_file

    source = undisturbed(2, 2)
    folder, checkpoint = stopped(source, tmp_path / "project", now)
    lose(checkpoint)
    before = sorted((p.relative_to(checkpoint), p.stat().st_mtime_ns) for p in checkpoint.rglob("*"))
    log = finish(folder, "--resume-weights-only", ranks=now, script=WITNESS)
    assert f"--resume-weights-only: {RUN}/checkpoint-{FROM}: " in log and "lost: the optimizer's state" in log
    assert_continuous(folder, source)
    assert sorted((p.relative_to(checkpoint), p.stat().st_mtime_ns) for p in checkpoint.rglob("*")) == before
    assert find_damage(folder / RUN / f"checkpoint-{STEPS}") is None

    loaded, names, states = flat_state(folder / "witness/loaded")
    assert not any(states), "a fresh optimizer"
    assert (folder / "witness/loaded" / f"global_step{FROM}").is_dir()
    adapter = load_file(checkpoint / "adapter_model.safetensors")
    assert torch.equal(loaded["fp32"], flat_adapter(adapter, names).float())
    assert column(folder, "loss") == pytest.approx(column(source, "loss"), abs=0.2)


class Hostile:
    """A value that says what it is by running code, as any pickle can."""

    def __reduce__(self):
        return open, ("ran", "w")


SHARD, STATES = f"global_step{FROM}/*_rank_1_*_optim_states.pt", f"global_step{FROM}/mp_rank_00_model_states.pt"
NOT_READ = ("optimizer.pt", "training_args.bin")


@pytest.mark.parametrize("names", [(STATES,), (SHARD,), ("scheduler.pt",), ("rng_state_1.pth",), NOT_READ])
def test_no_pickle_of_a_checkpoint_runs_code(undisturbed, tmp_path, names):
    import torch

    folder, checkpoint = stopped(undisturbed(2, 2), tmp_path / "project", 2)
    for name in names:
        (path,) = checkpoint.glob(name)
        torch.save([torch.load(path, weights_only=False), Hostile()], path)
    write_manifest(checkpoint, 2)
    if names == NOT_READ:
        finish(folder)
    else:
        told = f"{path.relative_to(folder)}: not loaded: it holds other things than a training writes"
        assert_refused(train(folder), told)
    assert not list(folder.rglob("ran"))
