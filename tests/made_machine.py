"""A made-up training machine: four A100s as far as torch says, the guide's configs, data, and a hub on loopback.

The programs are the real ones. Made up are the GPUs, how much disk is free, the version of Python, and the hub.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from made_hub import COMMIT, Hub
from processes import ROOT, run_in

from socrates.files import sha256_file
from socrates.model.sizing import QWEN2_14B

MODEL, TOKEN = "Qwen/Qwen2.5-14B-Instruct", "hf_" + "madeuptoken" * 3
ROWS = 2_400_000  # that the metadata tell of
# What a model's config.json says of its shape.
SHAPE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": QWEN2_14B.hidden,
    "intermediate_size": QWEN2_14B.inner,
    "num_hidden_layers": QWEN2_14B.layers,
    "num_attention_heads": QWEN2_14B.heads,
    "num_key_value_heads": QWEN2_14B.kv_heads,
    "vocab_size": QWEN2_14B.vocabulary,
}
NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"  # a whole safetensors file that holds none
# Who asks for GPUs by a program of one line gets made-up ones, all others the real torch.
_TORCH = """
import importlib, json, os, sys
from types import SimpleNamespace
if sys.argv[0] == "-c":
    with open(os.environ["MADE_UP"] + "/gpus.json") as file:
        gpus, error = json.load(file)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = gpus[: visible.count(",") + 1 if visible else None]
    def init():
        if error or not gpus:
            raise RuntimeError(error or "No CUDA GPUs are available")
    def get_device_properties(number):
        return SimpleNamespace(**gpus[number])
    cuda = SimpleNamespace(init=init, device_count=lambda: len(gpus), get_device_properties=get_device_properties)
else:
    sys.path.remove(os.environ["MADE_UP"])
    del sys.modules["torch"]
    importlib.import_module("torch")
"""
# Python reads it first: what cannot be made up from outside.
_SITE = """
import os, shutil, sys
if python := os.environ.get("MADE_UP_PYTHON"):
    sys.version, sys.version_info = python + " (made up)", (*map(int, python.split(".")), "final", 0)
if free := os.environ.get("MADE_UP_FREE"):
    real = shutil.disk_usage
    shutil.disk_usage = lambda path: real(path)._replace(free=int(free))
"""


class MadeMachine:
    """The machine's project folder; a set-up breaks it, and `preflight` runs the real script there.

    The project's folder is ``root``, in which preflight finds ``config`` and ``deepspeed`` as they are then.
    """

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.root, self.hub, self.code = folder / "project", hub, ROOT
        self.config: dict[str, Any] = json.loads((ROOT / "config_full_dataset.json").read_text())
        self.deepspeed: dict[str, Any] = json.loads((ROOT / "deepspeed_config.json").read_text())
        self.made_up, self.cache = folder / "made up", folder / "cache"
        (self.made_up / "torch").mkdir(parents=True)
        (self.made_up / "torch" / "__init__.py").write_text(_TORCH)
        (self.made_up / "sitecustomize.py").write_text(_SITE)
        self.gpus(4)
        self.environment = {
            **{name: os.environ[name] for name in ("HOME", "TMPDIR", "LANG") if name in os.environ},
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(self.made_up),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "MADE_UP": str(self.made_up),
            "MADE_UP_FREE": str(500 * 2**30),
            "HF_HOME": str(self.cache),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
        }
        self._prepare_data()

    @property
    def data(self) -> Path:
        return self.root / self.config["dataset_path"]

    def gpus(
        self, count: int, name: str = "NVIDIA A100-SXM4-80GB", gib: float = 79.2, major: int = 8, error: str = ""
    ) -> None:
        """What torch finds, or the error that it ends with."""
        gpu = {"name": name, "total_memory": int(gib * 2**30), "major": major, "minor": 0}
        (self.made_up / "gpus.json").write_text(json.dumps([[gpu] * count, error]))

    def cache_model(self, weights: bool = False) -> None:
        """The model's config in the hub's cache, with or without weights."""
        folder = self.cache / "hub" / f"models--{MODEL.replace('/', '--')}"
        snapshot = folder / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps(SHAPE))
        if weights:
            (snapshot / "model.safetensors").write_bytes(NO_WEIGHTS)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(COMMIT)

    def own_code(self) -> Path:
        """A copy of the program, as uploaded, that may be broken; its list of packages."""
        self.code = self.root
        for name in ("scripts", "socrates"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        return Path(shutil.copy(ROOT / "requirements_full_training.txt", self.root))

    def preflight(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the script; the token must not stand in anything that it prints."""
        (self.root / "config.json").write_text(json.dumps(self.config))
        (self.root / "deepspeed.json").write_text(json.dumps(self.deepspeed))
        command = [sys.executable, str(self.code / "scripts" / "preflight.py")]
        files = ["--config", "config.json", "--deepspeed", "deepspeed.json"]
        done = run_in(self.root, [*command, *files, *options], env=self.environment)
        assert self.environment.get("HF_TOKEN", TOKEN) not in done.stdout + done.stderr
        return done

    def _prepare_data(self) -> None:
        self.data.mkdir(parents=True)
        prompt = "You are a survey respondent. " + "How warm do you feel about the harbour festival? " * 15
        for part, count in (("train", 40), ("val", 4)):
            rows = [
                {"study_id": "s1", "condition_num": 0, "task_num": 0, "participant": i, "sample_id": i}
                | {"prompt": f"{prompt}Only return an integer from 0 to 100.", "response": i, "demographic": {"age": i}}
                for i in range(count)
            ]
            (self.data / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        hashes = {part: sha256_file(self.data / f"{part}.jsonl") for part in ("train", "val")}
        metadata = {"split": "study", "rows": {"train": ROWS, "val": 4}, "sha256": hashes}
        (self.data / "metadata.json").write_text(json.dumps(metadata))
