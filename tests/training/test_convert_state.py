"""A run that goes on on other hardware, or without its optimizer's shards: DeepSpeed's launcher, CPU ranks."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from processes import logged, train, train_and_kill, training_folder

from socrates.checkpoint import MANIFEST, find_damage, manifest_record, read_manifest
from socrates.files import write_json
from socrates.remote.transfer import LIGHT_FILES
from socrates.training.convert_state import rank_seed
from socrates.training.optimizer_export import _load_shards, merge_partitions

RUN, STEPS, FROM, PEAK, WARMUP = "models/run", 9, 3, 2e-3, 0.3
WITNESS = Path(__file__).resolve().parents[1] / "training_witness.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Gives the folder of a watched run that nothing happened to, by ranks and ZeRO stage; each is made once."""
    home = tmp_path_factory.mktemp("elsewhere")
    made = {}

    def run(ranks, stage):
        if (ranks, stage) not in made:
            folder = home / f"{ranks}-{stage}"
            make_project(home, folder, ranks, stage)
            finish(folder, ranks=ranks, script=WITNESS)
            made[ranks, stage] = folder
        return made[ranks, stage]

    return run


def make_project(home, folder, ranks, stage):
    if not (home / "base").exists():
        training = {"logging_steps": 1, "learning_rate": PEAK, "warmup_ratio": WARMUP}
        training_folder(home / "base", steps=STEPS, save_steps=3, training=training)
    shutil.copytree(home / "base", folder)
    set_ranks(folder, ranks)
    deepspeed = json.loads((folder / "deepspeed_config.json").read_text())
    write_json(folder / "deepspeed_config.json", deepspeed | {"zero_optimization": {"stage": stage}})


def set_ranks(folder, ranks):
    config = json.loads((folder / "config.json").read_text())
    config["training"]["num_processes"] = ranks
    write_json(folder / "config.json", config)


def stopped(undisturbed, folder, ranks):
    """A project whose run got to step 3 and is to go on, on some other number of ranks."""
    shutil.copytree(undisturbed, folder, ignore=shutil.ignore_patterns("witness", "checkpoint-6", "checkpoint-9"))
    set_ranks(folder, ranks)
    return folder, folder / RUN / f"checkpoint-{FROM}"


def finish(folder, *more, **options):
    result = train(folder, *more, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert not list((folder / RUN).glob(".universal-*"))
    return result.stdout


def column(folder, name, after=FROM):
    return [
        line[name] for line in logged(folder, f"{RUN}/checkpoint-{STEPS}") if "loss" in line and line["step"] > after
    ]


def witnessed(folder):
    """Step -> the examples that all ranks saw in it; and step -> the learning rate that the optimizer used."""
    examples, rates = {}, {}
    for path in (folder / "witness").glob("rank-*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            examples.setdefault(line["step"], []).extend(line["examples"])
            rates[line["step"]] = line["rate"]
    return {step: sorted(found) for step, found in examples.items()}, rates


def formula(step):
    """The learning rate of a step, counted from 1."""
    done, warmup = step - 1, math.ceil(WARMUP * STEPS)
    if done < warmup:
        return PEAK * done / warmup
    return PEAK * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (STEPS - warmup)))


def assert_continuous(folder, undisturbed):
    """The steps after the resumption: numbered on, at the formula's rates, over the undisturbed run's examples."""
    assert column(folder, "step") == list(range(FROM + 1, STEPS + 1))
    assert column(folder, "learning_rate") == pytest.approx([formula(s) for s in range(FROM + 1, STEPS + 1)], rel=1e-12)
    examples, rates = witnessed(folder)
    assert {step: rates[step] for step in rates} == pytest.approx({s: formula(s) for s in range(FROM + 1, STEPS + 1)})
    expected, _ = witnessed(undisturbed)
    assert examples == {step: found for step, found in expected.items() if step > FROM}
    assert all(len(found) == 16 for found in examples.values())


def state_of(checkpoint):
    """The float32 weights and both moments, by parameter; and the optimizer's count of steps."""
    model_state, shards = _load_shards(checkpoint)
    base = [shard["base_optimizer_state"]["state"][0] for shard in shards]
    parts = {
        "fp32": lambda shard, group: shard["single_partition_of_fp32_groups"][group],
        "exp_avg": lambda shard, group: shard["base_optimizer_state"]["state"][group]["exp_avg"],
        "exp_avg_sq": lambda shard, group: shard["base_optimizer_state"]["state"][group]["exp_avg_sq"],
    }
    merged = {name: merge_partitions(model_state, shards, part) for name, part in parts.items()}
    return merged, {float(state["step"]) for state in base}


@pytest.fixture(scope="module")
def moved(undisturbed, tmp_path_factory):
    """Gives a run that went on from step 3 on another number of ranks, and its output."""
    made = {}

    def run(before, now, stage):
        if (before, now, stage) not in made:
            source = undisturbed(before, stage)
            folder, _ = stopped(source, tmp_path_factory.mktemp("moved") / "project", now)
            made[before, now, stage] = folder, finish(folder, ranks=now, script=WITNESS)
        return made[before, now, stage]

    return run


@pytest.mark.parametrize("before, now, stage", [(2, 1, 2), (1, 2, 2), (2, 1, 1)])
def test_on_another_number_of_ranks_it_goes_on_with_the_optimizers_state(undisturbed, moved, before, now, stage):
    import torch

    source, (folder, log) = undisturbed(before, stage), moved(before, now, stage)
    assert f"a run of {before}: step, learning rate, the optimizer's state and the examples of each step go on" in log
    assert_continuous(folder, source)
    difference = max(abs(a - b) for a, b in zip(column(folder, "loss"), column(source, "loss"), strict=True))
    print(f"\n{before} -> {now} ranks, ZeRO-{stage}: losses differ by at most {difference:.2g}")
    assert difference < 1e-2

    checkpoint = folder / RUN / f"checkpoint-{FROM}"
    assert find_damage(checkpoint) is None and read_manifest(checkpoint).num_processes == before
    saved, saved_steps = state_of(checkpoint)
    loaded, loaded_steps = state_of(folder / "witness/loaded")
    assert saved_steps == loaded_steps == {FROM}
    for name, parameters in saved.items():
        assert parameters.keys() == loaded[name].keys()
        assert all(torch.equal(value, loaded[name][key]) for key, value in parameters.items()), name


def test_what_it_saves_then_is_ordinary_and_goes_on_exactly(moved, tmp_path):
    import torch

    there, _ = moved(2, 1, 2)
    folder = tmp_path / "project"
    shutil.copytree(there, folder, ignore=shutil.ignore_patterns("checkpoint-9"))
    checkpoint = folder / RUN / "checkpoint-6"
    assert read_manifest(checkpoint).num_processes == 1
    assert "checkpoint" not in json.loads((checkpoint / "training_config.json").read_text())["deepspeed"]
    states = torch.load(checkpoint / "global_step6/mp_rank_00_model_states.pt", weights_only=False)
    assert "checkpoint" not in states["ds_config"]
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


@pytest.mark.parametrize(
    "lose, now, reason",
    [
        (lose_the_shards, 2, "global_step3/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt is missing"),
        (make_light, 1, "a light download"),
    ],
)
def test_without_its_shards_it_goes_on_only_when_asked_to(undisturbed, tmp_path, lose, now, reason):
    import torch
    from safetensors.torch import load_file

    source = undisturbed(2, 2)
    folder, checkpoint = stopped(source, tmp_path / "project", now)
    lose(checkpoint)
    before = sorted((p.relative_to(checkpoint), p.stat().st_mtime_ns) for p in checkpoint.rglob("*"))
    refused = train(folder, ranks=now)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr, refused.stderr
    for part in (reason, "AdamW starts afresh", "float32 digits", "random numbers", "--resume-weights-only"):
        assert part in refused.stderr, refused.stderr

    log = finish(folder, "--resume-weights-only", ranks=now, script=WITNESS)
    assert f"--resume-weights-only: {RUN}/checkpoint-{FROM}: " in log and "lost: the optimizer's state" in log
    assert_continuous(folder, source)
    assert sorted((p.relative_to(checkpoint), p.stat().st_mtime_ns) for p in checkpoint.rglob("*")) == before
    assert find_damage(folder / RUN / f"checkpoint-{STEPS}") is None

    model_state, shards = _load_shards(folder / "witness/loaded")
    assert not any(shard["base_optimizer_state"]["state"] for shard in shards), "a fresh optimizer"
    assert (folder / "witness/loaded" / f"global_step{FROM}").is_dir()
    weights = merge_partitions(model_state, shards, lambda shard, g: shard["single_partition_of_fp32_groups"][g])
    adapter = load_file(checkpoint / "adapter_model.safetensors")
    assert {name.replace(".default.", ".") for name in weights} == set(adapter)
    for name, value in weights.items():
        assert torch.equal(value, adapter[name.replace(".default.", ".")].float())
    difference = max(abs(a - b) for a, b in zip(column(folder, "loss"), column(source, "loss"), strict=True))
    print(f"\n{lose.__name__}: losses differ by at most {difference:.2g}")
    assert difference < 0.2


def test_every_rank_and_step_has_random_numbers_of_its_own():
    seeds = {rank_seed(*place) for place in ((42, 3, 0), (42, 3, 1), (42, 4, 0), (43, 3, 0))}
    assert len(seeds) == 4 and rank_seed(42, 3, 0) == rank_seed(42, 3, 0)
    assert all(0 <= seed < 2**32 for seed in seeds)
