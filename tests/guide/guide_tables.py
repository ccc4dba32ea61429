"""What the walk through the pages has to know about single commands; the key is the command on one line.

A command that no page holds any more is an error (`guide_walk.py` checks it), so that nothing stays here unused.
"""

from __future__ import annotations

import re

from guide_laptop import TOKEN

GPU, ELSEWHERE = "needs a real GPU", "runs elsewhere"

# Not run, and why. Of the user's guide, only what needs a GPU or an account may stand here.
NOT_RUN = {
    "tnr ssh 0 'nvidia-smi'": GPU,
    "./scripts/rehearse.sh": f"{ELSEWHERE}: tests/scripts/rehearse.bats",
    "./scripts/test.sh": f"{ELSEWHERE}: it runs this",
}

# Exit statuses that are not 0, and why.
STATUS = {
    "./scripts/verify_test_run.sh 0": (2, "NOT DECIDED: utilization and memory of GPUs cannot be measured here"),
}

# What the pages ask the reader to put in; a machine in a folder, and the hub's cache, take anything.
PLACEHOLDERS = {
    **dict.fromkeys(("your_hf_token", "YOUR_HF_TOKEN", "hf_…"), TOKEN),
    **dict.fromkeys(("your_api_key", "YOUR_API_KEY", "YOUR_NEW_API_KEY"), "made-up-key"),
}

# Before these, the page says to wait for the training on the machine.
WAIT_FOR_TRAINING = (
    "ls models/socrates-qwen-full-dataset/",
    "tnr scp -r 0:~/socrates-training/models/socrates-qwen-500step-validation/checkpoint-500"
    " models/socrates-qwen-500step-validation/",
    "ls -lh models/socrates-qwen-test-run/",
    "./scripts/verify_test_run.sh 0",
)

_THERE = "instances/0/home/socrates-training"
# What is there afterwards.
FILES = {
    "python scripts/prepare_data.py --output data/socsci210_full --tokenize --config config_full_dataset.json": (
        "data/socsci210_full/train.jsonl",
        "data/socsci210_full/val.jsonl",
        "data/socsci210_full/metadata.json",
    ),
    "./scripts/evaluate_baseline.sh": ("evaluation_results/baseline/metrics.json",),
    "python scripts/evaluate.py --model models/socrates-qwen-full-dataset/checkpoint-500"
    " --test-data data/socsci210_full/val.jsonl --output evaluation_results/checkpoint-500 --max-examples 5000": (
        "evaluation_results/checkpoint-500/metrics.json",
    ),
    "./scripts/evaluate_checkpoint.sh models/socrates-qwen-500step-validation/checkpoint-500"
    " evaluation_results/baseline/metrics.json": (
        "evaluation_results/socrates-qwen-500step-validation/checkpoint-500/decision.json",
    ),
    "tnr scp 0 scripts/ ~/socrates-training/scripts/": (
        f"{_THERE}/scripts/train_full_dataset.py",
        f"{_THERE}/socrates/training/train.py",
    ),
    "tnr scp 0 data/socsci210_full/ ~/socrates-training/data/socsci210_full/": (
        f"{_THERE}/data/socsci210_full/train.jsonl",
    ),
    "./scripts/download_checkpoint.sh 30": ("models/socrates-qwen-test-run/checkpoint-30/manifest.json",),
    "./scripts/verify_test_run.sh 0": ("evaluation_results/socrates-qwen-test-run/verification.json",),
}


def is_watched(key: str) -> bool:
    """Whether a command goes on until Ctrl+C and is only looked at for a while."""
    return "tail -f" in key


def is_beside(key: str) -> bool:
    """Whether a command goes on in a terminal of its own."""
    return bool(re.match(r"\./scripts/monitor_checkpoints\.sh(?!.*--(once|missing|until-complete))", key))


def opens_session(key: str) -> bool:
    """Whether the commands that follow are typed on the machine, up to `exit`."""
    return bool(re.fullmatch(r"tnr ssh \S+", key))


def is_end_of_machine(key: str) -> bool:
    """Whether a machine is given back: what is being fetched from it must be here."""
    return key.startswith("tnr delete ")
