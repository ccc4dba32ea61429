"""A rehearsal of the guide's steps: sample answers made from a seed, a tiny base model, the guide's configs.

The answers are made up, and a file beside them says so: of people with a latent attitude that their demographics shift,
in studies whose conditions shift it too; they pile up where people's do.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from socrates.config import EvaluationSettings, LoraSettings, RunConfig, TrainingSettings
from socrates.data.prepare.prepare import prepare
from socrates.data.records import read_answers, render_prompt
from socrates.files import write_json, write_jsonl
from socrates.phases import TEST_RUN, VALIDATION_RUN
from socrates.rehearsal.base_model import make_base_model

_FULL_RUN = "socrates-qwen-full-dataset"
_MADE_UP = "made up by socrates/rehearsal/rehearsal.py; no person gave these answers"
_EDUCATION = ("High school graduate", "Some college", "Bachelor's degree", "Post grad study")
_IDEOLOGY = ("Very liberal", "Liberal", "Moderate", "Conservative", "Very conservative")
_TOPICS = (
    *("a new bus line", "the town library", "a tax on sugar", "working from home", "a park by the river"),
    *("paying nurses more", "a ban on loud mowers", "a four-day week", "public broadband", "a longer school day"),
    *("a local food market", "night trains", "a fee for parking", "a repair café", "a community orchard"),
    "later opening hours",
)
_VOICES = ("a neighbour", "an expert", "a newspaper", "the mayor")
_TRAIN_STUDIES = 10
# the least and the largest valid answer to a question, its wording, its answer instruction
_QUESTIONS = (
    (1, 5, "How strongly do you support {}?", "Only return an integer from 1 to 5, nothing else."),
    (
        *(1, 7, "How much do you agree that {} would help people like you?"),
        "Only return an integer from 1 to 7, where 1 means strongly disagree and 7 means strongly agree.",
    ),
    (0, 100, "How warm do you feel towards {}?", "Only return an integer from 0 to 100, nothing else."),
    (
        *(0, 10, "How likely is it, out of ten, that you would vote for {}?"),
        "Only return a number from 0 to 10, where 0 means 'not at all' and 10 means 'certainly'.",
    ),
    (1, 2, "Would you sign a petition for {}?", "Only return 1 for 'Yes' or 2 for 'No', nothing else."),
)


def make_published_sample(folder: Path, *, evaluation_studies: int = 24) -> None:
    """Write made-up answers as the data set is published: rows of all studies, and the list that splits them.

    Beside them stands that they are made up.
    """
    studies = made_studies(_TRAIN_STUDIES + evaluation_studies)
    names = [rows[0]["study_id"] for rows in studies]
    write_jsonl(folder / "data" / "train-00000-of-00001.jsonl", chain.from_iterable(studies))
    lists = {"seen": names[:_TRAIN_STUDIES], "unseen": names[_TRAIN_STUDIES:]}
    write_json(folder / "metadata" / "participant_mapping.json", lists)
    write_json(folder / "made.json", {"source": _MADE_UP})


def rehearsal_config(
    model: str,
    dataset_path: str,
    *,
    run: str = VALIDATION_RUN,
    steps: int | None,
    save_steps: int,
    global_batch_size: int = 32,
    eval_steps: int | None = None,
    bf16: bool = True,
) -> dict[str, Any]:
    """One of the guide's configs at the size of a rehearsal: two CPU processes, a tiny model and its learning rate, few
    steps, and no bf16 where it is switched off: a CPU without instructions for it takes ten times as long.
    """
    return RunConfig(
        model_name=model,
        dataset_path=dataset_path,
        output_dir=f"models/{run}",
        lora=LoraSettings(r=16, alpha=32, dropout=0.05),
        training=TrainingSettings(
            global_batch_size=global_batch_size,
            num_processes=2,
            learning_rate=3e-3,
            max_steps=steps,
            save_steps=save_steps,
            logging_steps=5,
            eval_steps=eval_steps,
            eval_examples=64,
            bf16=bf16,
        ),
        evaluation=EvaluationSettings(max_examples=600),
    ).to_dict()


def made_studies(count: int, seed: int = 0, people: int = 24) -> list[list[dict[str, Any]]]:
    """The rows of each made-up study, of so many people in each of its conditions."""
    return [list(_study(number, seed, people)) for number in range(count)]


def _study(number: int, seed: int, people: int) -> Iterator[dict[str, Any]]:
    """All rows of one made-up study: two conditions, three questions, other people in each condition."""
    rng = np.random.default_rng([seed, number])
    topic = _TOPICS[number % len(_TOPICS)]
    questions = rng.permutation(len(_QUESTIONS))[:3]
    voices = rng.permutation(len(_VOICES))[:2]
    effect, mean = rng.normal(0, 0.5), rng.normal(0.6, 0.5)
    sample_id = 0
    for condition in range(2):
        for person in range(people):
            age, ideology = int(rng.integers(18, 90)), int(rng.integers(len(_IDEOLOGY)))
            demographic = {
                "age": age,
                "gender": str(rng.choice(["Female", "Male"])),
                "education": str(rng.choice(_EDUCATION)),
                "ideology": _IDEOLOGY[ideology] if rng.random() < 0.9 else None,
            }
            attitude = mean + effect * condition - 0.35 * (ideology - 2) + rng.normal(0, 0.9)
            for task, (low, high, wording, instruction) in enumerate(_QUESTIONS[q] for q in questions):
                stimuli = (
                    f"You read what {_VOICES[voices[condition]]} wrote about {topic} and then were asked: "
                    f'"{wording.format(topic)}" {instruction}'
                )
                yield {
                    "study_id": f"made{number}",
                    "condition_num": condition,
                    "task_num": task,
                    "participant": condition * people + person,
                    "sample_id": sample_id,
                    "demographic": demographic,
                    "stimuli": stimuli,
                    "prompt": render_prompt(demographic, stimuli),
                    "response": _response(attitude, low, high, rng),
                }
                sample_id += 1


def _response(attitude: float, low: int, high: int, rng: np.random.Generator) -> int:
    """An answer as people give it: from an attitude (standard normal units), tens on a long scale."""
    share = 1 / (1 + np.exp(-(attitude + rng.normal(0, 0.5))))
    if high == 2:  # 1 is yes
        return 1 if rng.random() < share else 2
    value = low + share * (high - low)
    if high == 100 and rng.random() < 0.8:
        value = round(value / 10) * 10
    return round(value)


def rehearsal_deepspeed() -> dict[str, Any]:
    """The DeepSpeed config that goes with `rehearsal_config`."""
    by_the_trainer = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    return {
        **dict.fromkeys([*by_the_trainer, "gradient_clipping"], "auto"),
        "bf16": {"enabled": "auto"},
        "zero_optimization": {"stage": 2, "contiguous_gradients": True},
        "steps_per_print": 1_000_000_000,
    }


def main(place: str, data: str = "", *, base_steps: int = 250) -> None:
    """Fill a rehearsal folder: data at the guide's path, base model, the guide's configs at a rehearsal's size.

    Args:
        place: becomes what the project's folder is to the guide; holds none of this yet.
        data: a folder with `train.jsonl` and `val.jsonl` to link to; "" makes sample data.
        base_steps: of teaching the base model the answer format.
    """
    folder = Path(place)
    dataset, model = folder / "data" / "socsci210_full", folder / "models" / "tiny-qwen2-base"
    if not data:
        make_published_sample(folder / "published")
        prepare(dataset, source=str(folder / "published"))
        print(f"made sample answers in {dataset}", flush=True)
    else:
        dataset.mkdir(parents=True)
        for name in ("train.jsonl", "val.jsonl"):  # links, so that what is made beside them stays in this folder
            (dataset / name).symlink_to((Path(data) / name).resolve())
        print(f"using the answers in {data}", flush=True)
    make_base_model(model, dataset / "train.jsonl", steps=base_steps)
    print(f"made base model {model}", flush=True)
    make = partial(rehearsal_config, "models/tiny-qwen2-base", "data/socsci210_full")
    # One epoch of the data, as in the guide, but no more than a minute of it.
    epoch = -(-sum(1 for _ in read_answers(dataset / "train.jsonl")) // 32)
    steps = None if epoch <= 60 else 60
    configs = {
        "config_500step_validation.json": make(steps=40, save_steps=40, eval_steps=10, bf16=False),
        "config_test_run.json": make(run=TEST_RUN, steps=50, save_steps=10, global_batch_size=16),
        "config_full_dataset.json": make(run=_FULL_RUN, steps=steps, save_steps=15, eval_steps=15, bf16=False),
        **dict.fromkeys(("deepspeed_config.json", "deepspeed_config_test.json"), rehearsal_deepspeed()),
    }
    for name, config in configs.items():
        write_json(folder / name, config)
