"""scripts/train_full_dataset.py: the dry run, and what is refused before anything is loaded."""

import re
import shutil

import pytest
from processes import assert_refused, run_loaded, start_loaded, training_folder
from trainings import change

from socrates.config import parse_config
from socrates.files import write_json
from socrates.rehearsal.rehearsal import rehearsal_config

SCRIPT = ("train_full_dataset.py", "--config", "config.json", "--deepspeed", "deepspeed_config.json")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return training_folder(tmp_path_factory.mktemp("dry"), steps=9, save_steps=3, training={"learning_rate": 2e-3})


def test_started_with_the_wrong_number_of_processes(workplace):
    result = start_loaded(*SCRIPT, cwd=workplace, LOCAL_RANK="0")()
    assert_refused(result, "1 process started", "deepspeed --num_gpus=2")
    result = run_loaded(*SCRIPT, cwd=workplace)
    assert_refused(result, "start it with DeepSpeed's launcher: deepspeed --num_gpus=2")


def test_without_gpus_it_does_not_train_on_cpus_unasked(workplace):
    started = start_loaded(*SCRIPT, cwd=workplace, LOCAL_RANK="0", WORLD_SIZE="2", DS_ACCELERATOR="")
    assert_refused(started(), "torch can use 0 GPUs here, 2 processes need one each", "export DS_ACCELERATOR=cpu")


def test_planned_steps_are_the_papers_and_the_guides():
    config = rehearsal_config("m", "d", steps=1, save_steps=1)
    config["training"] |= {"max_steps": None, "global_batch_size": 256}
    assert parse_config(config, "c").planned_steps(2_418_748) == 9449
    assert parse_config(config, "c").planned_steps(2_901_390) == 11334


@pytest.fixture
def dry_run(tmp_path, workplace):
    folder = shutil.copytree(workplace, tmp_path / "project", ignore=shutil.ignore_patterns("models"))

    def run(config="config.json", deepspeed="deepspeed_config.json"):
        return run_loaded(SCRIPT[0], "--config", config, "--deepspeed", deepspeed, "--dry-run", cwd=folder)

    return folder, run


def test_dry_run_says_what_the_run_would_be(dry_run):
    folder, run = dry_run
    result = run()
    assert result.returncode == 0, result.stderr
    assert '"learning_rate": 0.002' in result.stdout and "9 steps of 16 examples, 3 checkpoints" in result.stdout
    assert {p.name for p in folder.iterdir()} == {"config.json", "data", "deepspeed_config.json"}, "writes nothing"


def test_dry_run_says_what_fewer_people_of_a_cell_save(dry_run):
    folder, run = dry_run
    change(folder, {"max_steps": None}, data={"rows_per_cell": 4}, price_per_hour=7.2, model_name="Qwen/Qwen2.5-14B")
    told = run().stdout
    line = re.search(
        r"^On 2 x A100 80GB \(assumed\): rows_per_cell = 4 takes 144 of 360 rows, of all 36 cells "
        r"\(all rows: 23 steps, \d+ s, \$\d+\.\d\d\); 9 steps take about \d+ s, at .*: \$\d+\.\d\d at \$7.20 an hour$",
        told,
        re.MULTILINE,
    )
    assert line and "\n9 steps of 16 examples, 3 checkpoints" in told, told


PROGRAMS = [
    (*SCRIPT, "--dry-run"), SCRIPT, ("preflight.py", *SCRIPT[1:]), ("preflight.py", *SCRIPT[1:3]),
    ("supervise.py", "start", *SCRIPT[1:], "--log", "a.log"), ("lib/run.py", "config", SCRIPT[2], SCRIPT[4]),
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: " ".join(program[:2]))
def test_a_run_whose_checkpoints_no_monitor_would_find_is_refused_with_the_rule(workplace, tmp_path, program):
    folder = shutil.copytree(workplace, tmp_path / "project")
    change(folder, output_dir="models/qwen_lr=1e-5")
    result = run_loaded(*program, cwd=folder)
    assert_refused(result, "'models/qwen_lr=1e-5': must be models/NAME", "letters, digits, dots, - and _")
    assert {p.name for p in (folder / "models").iterdir()} == {"base"}


@pytest.mark.parametrize(
    "name, content, parts",
    [
        ("train.jsonl", None, ["no such data file"]),
        ("train.jsonl", b'{"study_id": 1}\n{"b": \n', ["train.jsonl, line 1", '"response"']),
        ("val.jsonl", b"\n{nonsense}\n", ["val.jsonl, line 2", "not JSON"]),
    ],
)
def test_dry_run_refuses_bad_data(dry_run, name, content, parts):
    folder, run = dry_run
    path = folder / "data/set" / name
    path.unlink() if content is None else path.write_bytes(content)
    assert_refused(run(), *parts)


def test_dry_run_refuses_missing_files_and_a_scheduler_of_deepspeeds(dry_run):
    folder, run = dry_run
    assert_refused(run(config="absent.json"), "absent.json: no such config")
    write_json(folder / "scheduler.json", {"scheduler": {}, "zero_optimization": {"stage": 2}})
    assert_refused(run(deepspeed="scheduler.json"), '"scheduler": remove this block')
