"""The reader's laptop, made for a rehearsal: a copy of the repository in which the pages' commands run as printed.

What stands in for what costs money or hours: a tiny model and made-up answers lie in the hub's cache under the real
names; the configs are the shipped ones but for the sizes below; a folder is the rented machine; and `python3 -m venv`
makes an environment that finds the packages of this checkout, so that `pip install` downloads nothing.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODEL, DATA = "Qwen/Qwen2.5-14B-Instruct", "socratesft/SocSci210"
COMMIT = "0123456789abcdef" * 2 + "01234567"
TOKEN = "hf_" + "GuideRehearsal" * 2  # must be found in no file and no output afterwards

_RATE = {"training.learning_rate": 0.003}  # a tiny model's
_LONG = _RATE | {"training.bf16": False}  # a CPU without instructions for it takes ten times as long
SIZES: dict[str, dict[str, Any]] = {
    "config_500step_validation.json": {"training.global_batch_size": 4, "training.eval_examples": 8, **_LONG},
    "config_test_run.json": {"training.global_batch_size": 4, **_RATE},
    "config_full_dataset.json": {
        "training.global_batch_size": 2,
        "training.num_processes": 1,
        "training.max_steps": 500,  # one epoch of made-up answers would be 720
        "training.eval_examples": 8,
        **_LONG,
    },
    "deepspeed_config.json": {"train_batch_size": "auto"},
    "deepspeed_config_test.json": {"train_batch_size": "auto"},
}

_PYTHON = r"""#!/usr/bin/env bash
# The system's Python, but for one thing: the environments that it makes find the packages of another.
set -euo pipefail
[[ "${1:-} ${2:-}" == "-m venv" ]] || exec %(base)s "$@"
%(base)s -m venv --without-pip "${@:3}" # pip is one of these packages
made=$(cd "${@: -1}" && pwd)
for site in "$made"/lib/python*/site-packages; do
  for packages in %(venv)s/lib/python*/site-packages; do printf '%%s\n' "$packages" >"$site/of-this-checkout.pth"; done
done
cd %(venv)s/bin
for program in [a-z]*; do
  case $(head -c 4096 -- "$program" | tr -d '\0' | head -n 2) in
    '#!'*/bin/python*) from=2 ;;
    '#!/bin/sh'*"'exec'"*/bin/python*) from=4 ;; # as pip writes it where the path is long or holds a space
    *) continue ;;
  esac
  [[ ! -e $made/bin/$program ]] || continue
  { printf '#!%%s/bin/python\n' "$made" && tail -n "+$from" -- "$program"; } >"$made/bin/$program"
  chmod +x "$made/bin/$program"
done
"""


class Laptop:
    """The rehearsal's folder.

    Args:
        place: where it is made: not there yet, and without a space in its path (`deepspeed` does not start from such).
        hub: made by `fill_hub_cache`; it is copied.
    """

    def __init__(self, place: Path, hub: Path) -> None:
        self.folder, self.notes = place / "socrates", place / "notes"  # the project's; for the terminals' output
        _copy_repository(self.folder)
        for name, changes in SIZES.items():
            _change(self.folder / name, changes)
        shutil.copytree(hub, place / "hub")
        programs = place / "bin"
        _stand_in_for_python(programs)
        self.environment = {
            "HOME": str(place),
            "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "SOCRATES_BACKEND": "local",  # a folder is the machine
            "DS_ACCELERATOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HOME": str(place / "hub"),
            "HF_HUB_OFFLINE": "1",
            "PIP_NO_INDEX": "1",
        }

    def machines(self) -> list[Path]:
        """The project's folder on each rented machine."""
        return sorted(self.folder.glob("instances/*/home/socrates-training"))

    def files_with(self, text: str) -> list[Path]:
        """All files here and on the machines that hold a text."""
        found = subprocess.run(
            ["grep", "-rlaF", "--", text, str(self.folder.parent)], capture_output=True, text=True, check=False
        )
        return [Path(name) for name in found.stdout.splitlines()]


def _copy_repository(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # not one that was removed and is not committed yet; not a link to a folder
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _change(path: Path, changes: dict[str, Any]) -> None:
    """Set keys ("training.max_steps") that must be there: a key of another name would test nothing."""
    config = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, key = name.split(".")
        part = config
        for parent in parents:
            part = part[parent]
        if key not in part:
            raise KeyError(f"{path.name} has no {name}")
        part[key] = value
    path.write_text(json.dumps(config, indent=2) + "\n")


def fill_hub_cache(cache: Path) -> None:
    """Made-up answers and a tiny model as the hub's client keeps what it has downloaded."""
    from socrates.rehearsal.base_model import make_base_model
    from socrates.rehearsal.rehearsal import make_published_sample

    made = cache / "made"
    make_published_sample(made / "answers", evaluation_studies=10)
    make_base_model(made / "model", made / "answers" / "data" / "train-00000-of-00001.jsonl", steps=100)
    for kind, name, source in (("models", MODEL, made / "model"), ("datasets", DATA, made / "answers")):
        kept = cache / "hub" / f"{kind}--{name.replace('/', '--')}"
        (kept / "refs").mkdir(parents=True)
        (kept / "refs" / "main").write_text(COMMIT)
        (kept / "snapshots").mkdir()
        source.rename(kept / "snapshots" / COMMIT)
    shutil.rmtree(made)


def _stand_in_for_python(programs: Path) -> None:
    programs.mkdir()
    places = {"base": Path(sys._base_executable).resolve(), "venv": Path(sys.prefix).resolve()}
    text = _PYTHON % {name: shlex.quote(str(place)) for name, place in places.items()}
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
