"""A made-up training machine: four A100s as far as nvidia-smi says, the guide's configs, data, and a hub on loopback.

The programs are the real ones. Made up are what nvidia-smi prints, how much disk is free, the version of Python, the
CUDA that torch is built for, and the hub. A torch that is imported ends the program: preflight must do without.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from processes import PATIENCE, ROOT

from socrates.files import sha256_file
from socrates.model.sizing import QWEN2_14B

MODEL, TOKEN = "Qwen/Qwen2.5-14B-Instruct", "hf_" + "madeuptoken" * 3
COMMIT = "c" * 40
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
_NVIDIA_SMI = """#!/bin/sh
case "$1" in
  --query-gpu=index,uuid*) sed 's/^\\([0-9]*\\), \\([^,]*\\), .*/\\1, GPU-\\1a5c, 0, 0, 0, \\2/' "$MADE_UP/gpus.csv" ;;
  --query-gpu*compute_cap*) cat "$MADE_UP/gpus.csv" ;;
  --query-gpu*) cut -d, -f1-4 "$MADE_UP/gpus.csv" ;;
  *) echo "| NVIDIA-SMI   Driver Version: 570.86.10   CUDA Version: $(cat "$MADE_UP/cuda") |" ;;
esac
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


class Hub(ThreadingHTTPServer):
    """A hub with one model, of which only config.json is asked for.

    Attributes:
        gated: whether the model wants a token of somebody who has accepted its terms.
        accepts: the tokens that it knows.
        asked: path of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.gated, self.accepts, self.asked = False, {TOKEN}, []
        threading.Thread(target=lambda: self.serve_forever(poll_interval=0.02), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known = token in self.server.accepts
        if token and not known:
            return self.reply(401, **{"X-Error-Message": "Invalid credentials in Authorization header"})
        if self.path == "/api/whoami-v2":
            return self.reply(200 if known else 401)
        if self.path != f"/{MODEL}/resolve/main/config.json":
            return self.reply(404, **{"X-Error-Code": "RepoNotFound"})
        if self.server.gated and not known:
            return self.reply(401, **{"X-Error-Code": "GatedRepo"})
        return self.reply(200, **{"X-Repo-Commit": COMMIT, "ETag": '"a"'})

    do_HEAD = do_GET

    def reply(self, status: int, **headers: str) -> None:
        body = b'{"name": "somebody"}'
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class MadeMachine:
    """The machine's project folder; a set-up breaks it, and `preflight` runs the real script there.

    Attributes:
        root: the project's folder, with config.json and deepspeed.json.
        code: where the program lies.
        config, deepspeed: written when preflight runs.
        environment: of the program.
        hub: that it asks.
    """

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.root, self.hub, self.code = folder / "project", hub, ROOT
        self.config: dict[str, Any] = json.loads((ROOT / "config_full_dataset.json").read_text())
        self.deepspeed: dict[str, Any] = json.loads((ROOT / "deepspeed_config.json").read_text())
        self.made_up, self.cache = folder / "made up", folder / "cache"
        (self.made_up / "torch").mkdir(parents=True)
        (self.made_up / "torch" / "__init__.py").write_text("raise SystemExit('torch was imported')\n")
        (self.made_up / "sitecustomize.py").write_text(_SITE)
        (self.made_up / "nvidia-smi").write_text(_NVIDIA_SMI)
        (self.made_up / "nvidia-smi").chmod(0o755)
        self.gpus(4)
        self.cuda(driver="12.8", torch="12.8")
        self.environment = {
            **{name: os.environ[name] for name in ("HOME", "TMPDIR", "LANG") if name in os.environ},
            "PATH": f"{self.made_up}:/usr/bin:/bin",
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
        self, count: int, name: str = "NVIDIA A100-SXM4-80GB", mib: int = 81920, capability: str | None = "8.0"
    ) -> None:
        """What nvidia-smi lists."""
        rows = [f"{i}, {name}, {mib}, 570.86.10" + (f", {capability}" if capability else "") for i in range(count)]
        (self.made_up / "gpus.csv").write_text("".join(f"{row}\n" for row in rows))

    def cuda(self, driver: str, torch: str | None) -> None:
        """Up to which CUDA the driver can, and what torch is built for."""
        (self.made_up / "cuda").write_text(driver)
        (self.made_up / "torch" / "version.py").write_text(f"cuda: Optional[str] = {torch!r}\n")

    def cache_model(self, weights: bool = False) -> Path:
        """The model's config and tokenizer (a small one) in the hub's cache, with or without weights."""
        from tiny import tiny_tokenizer

        folder = self.cache / "hub" / f"models--{MODEL.replace('/', '--')}"
        snapshot = folder / "snapshots" / COMMIT
        tiny_tokenizer().save_pretrained(snapshot)
        (snapshot / "config.json").write_text(json.dumps(SHAPE))
        if weights:
            (snapshot / "model.safetensors").write_bytes(NO_WEIGHTS)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(COMMIT)
        return snapshot

    def tokenize(self) -> Path:
        """The tokenized set of the machine's config, made by the real function, of the cached tokenizer."""
        from socrates.data.tokenize import ensure_tokenized
        from socrates.model.load import load_tokenizer

        file, settings = self.data / "train.jsonl", self.config
        return ensure_tokenized(
            file,
            sha256_file(file),
            load_tokenizer(self.cache_model()),
            settings["prompt"]["system_message"],
            settings["training"]["max_length"],
            processes=1,
        )

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
        done = subprocess.run(
            [*command, "--config", "config.json", "--deepspeed", "deepspeed.json", *options],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
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
