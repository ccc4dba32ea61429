"""Set-ups that would stop a full training, or spoil it, each with the line of preflight that tells so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from made_machine import MadeMachine


@dataclass(frozen=True)
class BrokenSetUp:
    """One thing that is wrong with a machine or a run."""

    name: str
    broken_by: Callable[[MadeMachine], object]
    check: str  # whose line tells it
    outcome: str
    text: str  # part of the line
    remedy: str  # part of what to do


def _training(**changes: object) -> Callable[[MadeMachine], object]:
    return lambda machine: machine.config["training"].update(changes)


def _config(**changes: object) -> Callable[[MadeMachine], object]:
    return lambda machine: machine.config.update(changes)


def _environment(**changes: str) -> Callable[[MadeMachine], object]:
    return lambda machine: machine.environment.update(changes)


def _unpinned(machine: MadeMachine) -> None:
    with machine.own_code().open("a") as file:
        file.write("a-package-that-nobody-has==1.0\n")


def _small_gpus(machine: MadeMachine) -> None:
    machine.gpus(4, "NVIDIA A100-SXM4-40GB", 40960)
    machine.config["training"].update(checkpointed_layers=0)


def _stale(machine: MadeMachine) -> None:
    machine.tokenize()
    machine.config["training"].update(max_length=1024)


def _cut_off(machine: MadeMachine) -> None:
    file = machine.tokenize() / "data.arrow"
    file.write_bytes(file.read_bytes()[:-100])


def _changed(machine: MadeMachine) -> None:
    with (machine.data / "train.jsonl").open("a") as file:
        file.write("{}\n")


def _gated(machine: MadeMachine) -> None:
    machine.hub.gated = True
    del machine.environment["HF_TOKEN"]


def _deepspeed(machine: MadeMachine) -> None:
    machine.deepspeed.update(train_batch_size=128, scheduler={"type": "WarmupLR"})


def _folder_with_revision(machine: MadeMachine) -> None:
    shutil.copytree(machine.cache_model(weights=True), machine.root / "models" / "base")
    machine.config.update(model_name="models/base", model_revision="main")


BROKEN = (
    BrokenSetUp("Python 3.10", _environment(MADE_UP_PYTHON="3.10.12"), "Python", "FAIL", "3.10.12", "3.11, 3.12"),
    BrokenSetUp("a pinned package is not installed", _unpinned, "packages", "FAIL", "that-nobody-has missing", "pip"),
    BrokenSetUp("no GPU", lambda m: m.gpus(0), "GPUs", "FAIL", "none; the config has 4", "nvidia-smi"),
    BrokenSetUp(
        "three GPUs, a config for four", lambda m: m.gpus(3), "GPUs", "FAIL", "3 x NVIDIA A100", '"num_processes": 2'
    ),
    BrokenSetUp(
        "one of four GPUs is hidden",
        _environment(CUDA_VISIBLE_DEVICES="0,1,2"),
        "GPUs",
        "FAIL",
        "the config has 4 processes",
        "CUDA_VISIBLE_DEVICES",
    ),
    BrokenSetUp(
        "GPUs that are named by UUID",
        _environment(CUDA_VISIBLE_DEVICES="GPU-3a5c,GPU-1a5c,GPU-0a5c,GPU-2a"),
        "GPUs",
        "FAIL",
        "4 x NVIDIA A100-SXM4-80GB (80 GiB), driver 570.86.10; CUDA_VISIBLE_DEVICES=GPU-3a5c",
        "write CUDA_VISIBLE_DEVICES=3,1,0,2",
    ),
    BrokenSetUp(
        "a driver for CUDA 11.4, torch for 12.8",
        lambda m: m.cuda(driver="11.4", torch="12.8"),
        "CUDA",
        "FAIL",
        "the driver can 11.4",
        "a newer driver",
    ),
    BrokenSetUp(
        "torch without CUDA", lambda m: m.cuda("12.8", None), "CUDA", "FAIL", "torch has no CUDA", "pip install -r"
    ),
    BrokenSetUp(
        "GPUs without bf16",
        lambda m: m.gpus(4, "Quadro RTX 8000", 49152, "7.5"),
        "bf16",
        "FAIL",
        "not on Quadro RTX 8000 (7.5)",
        "8.0 or more",
    ),
    BrokenSetUp(
        "40 GB GPUs, settings that need 60",
        _small_gpus,
        "memory",
        "FAIL",
        "of 39.4 GiB a GPU predicted at 2048 tokens at once, 0 of 48 layers recomputed",
        'write "checkpointed_layers": 38 or null',
    ),
    BrokenSetUp(
        "24 GB GPUs: less than the model's weights",
        lambda m: m.gpus(4, "NVIDIA A10G", 23028, "8.6"),
        "memory",
        "FAIL",
        "48 of 48 layers recomputed: weights 27.5",
        "rent GPUs of 40 GiB or more",
    ),
    BrokenSetUp(
        "too many tokens at once, nothing recomputed",
        _training(micro_batch_tokens=8192, checkpointed_layers=0),
        "memory",
        "FAIL",
        "predicted at 8192 tokens at once",
        'write "micro_batch_tokens": 3200',
    ),
    BrokenSetUp(
        "kernels and a tracker that are not installed",
        _training(attn_implementation="flash_attention_2", report_to="wandb"),
        "settings",
        "FAIL",
        'report_to": wandb is not installed | "training.attn_implementation": flash_attention_2 needs the package',
        'pip install wandb, or write "none" | pip install flash-attn',
    ),
    BrokenSetUp(
        "a model folder with a revision",
        _folder_with_revision,
        "settings",
        "FAIL",
        "models/base: a local folder has no revisions",
        "leave 'main' out",
    ),
    BrokenSetUp(
        "a DeepSpeed file of another config", _deepspeed, "DeepSpeed", "FAIL", "128 contradicts the run", "--deepspeed"
    ),
    BrokenSetUp(
        "a token that the hub does not know",
        _environment(HF_TOKEN="hf_" + "expired" * 5),
        "HF_TOKEN",
        "FAIL",
        "the hub refuses it (status 401)",
        "make a new token",
    ),
    BrokenSetUp("no token for a gated model", _gated, "model", "FAIL", "the model is gated", "set HF_TOKEN to a token"),
    BrokenSetUp(
        "a misspelt model",
        _config(model_name="Qwen/Qwen2.5-14B-Instrct"),
        "model",
        "FAIL",
        "no such model on the hub",
        "check the spelling",
    ),
    BrokenSetUp(
        "the hub cannot be reached, nothing is cached",
        _environment(HF_ENDPOINT="http://127.0.0.1:9"),
        "model",
        "FAIL",
        "the hub cannot be reached",
        "look at the network",
    ),
    BrokenSetUp(
        "offline, with a part of the model in the cache",
        lambda m: (m.cache_model(), m.environment.update(HF_HUB_OFFLINE="1")),
        "model",
        "FAIL",
        "not, or not completely, in the cache, and HF_HUB_OFFLINE is set",
        "unset HF_HUB_OFFLINE",
    ),
    BrokenSetUp(
        "no data", lambda m: (m.data / "train.jsonl").unlink(), "data", "FAIL", "train.jsonl is not there", "tnr scp 0"
    ),
    BrokenSetUp(
        "data changed since it was prepared",
        _changed,
        "data",
        "FAIL",
        "train.jsonl: data file changed after its metadata",
        "tnr scp 0",
    ),
    BrokenSetUp(
        "a tokenized set of another max_length",
        _stale,
        "tokenized set",
        "warn",
        "stale: tokenized-",
        "--tokenize --config config.json",
    ),
    BrokenSetUp("a tokenized set that was cut off", _cut_off, "tokenized set", "FAIL", "cut off", "rm -r"),
    BrokenSetUp(
        "too little disk for all checkpoints",
        _environment(MADE_UP_FREE=str(45 * 2**30)),
        "disk",
        "FAIL",
        "19 checkpoints are to come, about 1.3 GiB each",
        '"save_steps": ',
    ),
    BrokenSetUp(
        "max_cost_usd too small for the run",
        _config(max_cost_usd=40),
        "cost",
        "warn",
        "max_cost_usd = 40 would stop it at about step",
        'write "max_cost_usd": ',
    ),
)
