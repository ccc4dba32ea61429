"""What the walk through the pages has to know about single commands; the key is the command on one line.

A command that no page holds any more is an error (`unused_entries`), so that nothing stays here unused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from guide_laptop import TOKEN
from guide_pages import Command

GPU, ELSEWHERE = "needs a real GPU", "runs elsewhere"

# Not run, and why. Of the user's guide, only what needs a GPU or an account may stand here.
NOT_RUN = {
    "tnr ssh 0 'nvidia-smi'": GPU,
    "./scripts/rehearse.sh": f"{ELSEWHERE}: tests/scripts/rehearse.bats",
    "./scripts/test.sh": f"{ELSEWHERE}: it runs this",
}

# Exit statuses that are not 0, and why.
STATUS = {"./scripts/verify_test_run.sh 0": (2, "NOT DECIDED: utilization and memory of GPUs cannot be measured here")}

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


def fill_in(text: str) -> str:
    """What the reader types: the command with something in place of the page's placeholders."""
    for placeholder, value in PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    return text


def is_watched(key: str) -> bool:
    """Whether a command goes on until Ctrl+C and is only looked at for a while."""
    return "tail -f" in key


def is_beside(key: str) -> bool:
    """Whether a command goes on in a terminal of its own."""
    return bool(re.match(r"\./scripts/monitor_checkpoints\.sh(?!.*--(once|missing|until-complete))", key))


def is_end_of_machine(key: str) -> bool:
    """Whether a machine is given back: what is being fetched from it must be here."""
    return key.startswith("tnr delete ")


def steps_of(block: list[Command]) -> list[list[Command]]:
    """A block's commands, those typed on a machine (up to `exit`) together with the one that opens the session."""
    steps: list[list[Command]] = []
    is_open = False
    for command in block:
        if is_open:
            steps[-1].append(command)
            is_open = command.text != "exit"
        else:
            steps.append([command])
            opens = re.fullmatch(r"tnr ssh \S+", command.key)
            is_open = opens is not None and any(c.text == "exit" for c in block)
    return steps


def unused_entries(pages: Iterable[list[list[Command]]]) -> list[str]:
    """Commands in the tables that stand on no page."""
    keys = {command.key for blocks in pages for block in blocks for command in block}
    return sorted({*NOT_RUN, *STATUS, *WAIT_FOR_TRAINING} - keys)
