"""Whether every machine of a run has what its ranks need, asked before anything is started.

Covers: reached by ssh, environment, Python and package versions, the same code, configs and data, a model, enough
GPUs, nothing that trains there already; one ssh command a machine, all at once. Machines need share no disk.
Does not cover: the tokenized set, which each machine makes for itself; ports between the machines.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.files import read_text, remembered_sha256, sha256_file
from socrates.hub import names_a_folder
from socrates.machine.hosts import Host, enter_folder, ssh_command
from socrates.machine.situation import find_unsupervised, read_record
from socrates.preflight.gpus import find_gpus
from socrates.prepared import METADATA

MARK = "socrates-facts "  # before the answer, among what a login prints
REQUIREMENTS = "requirements_full_training.txt"
_PATIENCE = 900.0  # seconds: a machine reads its data file once for the digest
_NO_FOLDER, _NO_VENV, _NOT_REACHED = 91, 92, 255


def find_facts(config: RunConfig, files: Sequence[str], root: Path) -> dict[str, Any]:
    """What there is on this machine, as JSON values.

    Args:
        config: of the run.
        files: config files that the ranks read, relative to the project's folder.
        root: the project's folder.
    """
    data = (config.train_file, config.evaluation_file, Path(config.dataset_path) / METADATA)
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _pinned(root)},
        "code": {path: _digest(root / path) for path in [*_code(root), *files]},
        "data": {str(path): _data_file(path) for path in data},
        "model": _model(config),
        "gpus": len(find_gpus()),
        "training": _training(config),
    }


def check_hosts(
    hosts: Sequence[Host], config: RunConfig, files: Sequence[str], environment: Mapping[str, str], root: Path
) -> list[str]:
    """Ask all machines but this one (the first), and compare.

    Returns:
        Notes, none of which stands in the way of the run.

    Raises:
        SocratesError: every machine's problems, each with what to do about it.
    """
    if missing := [path for path in files if Path(path).is_absolute() or ".." in Path(path).parts]:
        raise SocratesError(f"{missing[0]}: must lie in the project's folder, as it does on the other machines")
    own = find_facts(config, files, root)
    with ThreadPoolExecutor(max_workers=32) as pool:
        answers = list(pool.map(lambda host: _ask(host, files, root), hosts[1:]))
    notes, problems = [], [f"{hosts[0].name}: {text}" for text in _gpu_problem(own["gpus"], hosts[0], environment)]
    for host, answer in zip(hosts[1:], answers, strict=True):
        found = [answer] if isinstance(answer, str) else compare(own, answer, host, environment, root)
        problems += [f"{host.name}: {text}" for text in found]
        if not isinstance(answer, str) and answer["model"] is None:
            notes.append(f"{host.name}: the model is not in the cache there; it is downloaded when the training starts")
    if problems:
        raise SocratesError("\n  ".join(["not every host is ready; nothing was started:", *problems]))
    return notes


def compare(
    own: Mapping[str, Any], there: Mapping[str, Any], host: Host, environment: Mapping[str, str], root: Path
) -> list[str]:
    """What stands in the way of a run with the first machine's facts and another's."""
    problems = []
    folder = enter_folder(root, Path.home()).removeprefix("cd ")
    pythons = [_minor(facts["python"]) for facts in (own, there)]
    versions = [(name, own["packages"][name], there["packages"].get(name)) for name in own["packages"]]
    other = [f"{name} {found or 'missing'}, not {wanted}" for name, wanted, found in versions if found != wanted]
    if pythons[0] != pythons[1]:
        make = _remote(host, f"{folder_line(root)} && rm -r venv && {_make_venv(pythons[0])}")
        problems.append(f"Python {pythons[1]}, here it is {pythons[0]}; make venv/ there anew with that: {make}")
    elif other:
        install = _remote(host, f"{folder_line(root)} && venv/bin/pip install -r {REQUIREMENTS}")
        problems.append(f"other versions than here: {', '.join(other)}; {install}")
    code = differing(own["code"], there["code"])
    if code:
        shown = ", ".join(code[:3]) + (f" and {len(code) - 3} more" if len(code) > 3 else "")
        problems.append(f"its code or config differs: {shown}; {_send_code(host, root, own['code'])}")
    for path, here in own["data"].items():
        problem = _data_problem(path, here, there["data"].get(path))
        if problem:
            problems.append(f"{problem}; tar cf - {shlex.quote(path)} | {_remote(host, f'tar xf - -C {folder}')}")
    problems += _model_problem(own["model"], there["model"])
    problems += _gpu_problem(there["gpus"], host, environment)
    if there["training"] and there["training"] != own["training"]:
        problems.append(f"a training is running there already: {there['training']}; wait for it, or end it")
    return problems


def differing(own: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Names that are not the same on both sides, those that one side lacks included."""
    return sorted(name for name in {*own, *there} if own.get(name) != there.get(name))


def folder_line(root: Path) -> str:
    """Into the project's folder, on another machine."""
    return enter_folder(root, Path.home())


def _ask(host: Host, files: Sequence[str], root: Path) -> dict[str, Any] | str:
    """A machine's facts, or why there are none."""
    arguments = shlex.join(["--config", files[0], "--deepspeed", files[1]])
    line = (
        f"{folder_line(root)} 2>/dev/null || exit {_NO_FOLDER}; test -x venv/bin/python || exit {_NO_VENV}; "
        f"exec venv/bin/python scripts/hosts.py facts {arguments}"
    )
    try:
        done = subprocess.run(
            ssh_command(host, line), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE
        )
    except FileNotFoundError:
        return "needs ssh on this machine: apt-get install openssh-client"
    except subprocess.TimeoutExpired:
        return f"gave no answer within {_PATIENCE:.0f} s"
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == _NOT_REACHED:
        return f"cannot be reached: {last}; this must work here without a question: ssh {host.name} true"
    if done.returncode == _NO_FOLDER:
        return f"has no folder {root}; {_send_code(host, root, {})}"
    if done.returncode == _NO_VENV:
        make = _make_venv(_minor(platform.python_version()))
        return f"has no environment; make it: {_remote(host, f'{folder_line(root)} && {make}')}"
    for text in done.stdout.splitlines():
        if text.startswith(MARK):
            return json.loads(text.removeprefix(MARK))
    return f"cannot tell what it has: {last}; {_send_code(host, root, {})}"


def _make_venv(python: str) -> str:
    return f"python{python} -m venv venv && venv/bin/pip install -r {REQUIREMENTS}"


def _minor(version: str) -> str:
    """3.12 of 3.12.1: what packages are made for."""
    return ".".join(version.split(".")[:2])


def _remote(host: Host, line: str) -> str:
    """A command for a person's shell that has another machine's shell run a line."""
    return f"ssh {host.name} {shlex.quote(line)}"


def _send_code(host: Host, root: Path, code: Collection[str]) -> str:
    configs = sorted(path for path in code if "/" not in path)
    what = shlex.join(["scripts", "socrates", REQUIREMENTS, *configs])
    folder = folder_line(root).removeprefix("cd ")
    return f"tar ch {what} | {_remote(host, f'mkdir -p {folder} && tar xf - -C {folder}')}"


def _code(root: Path) -> list[str]:
    paths = [*(root / "scripts").glob("*.py"), *(root / "socrates").rglob("*.py")]
    return sorted(path.relative_to(root).as_posix() for path in paths)


def _digest(path: Path) -> str | None:
    return sha256_file(path)[:16] if path.is_file() else None


def _data_file(path: Path) -> list[Any] | None:
    return [path.stat().st_size, remembered_sha256(path)] if path.is_file() else None


def _data_problem(path: str, here: list[Any] | None, there: list[Any] | None) -> str | None:
    if here == there or here is None:
        return None
    if there is None:
        return f"{path} is not there"
    if here[0] != there[0]:
        return f"{path} has {there[0]} bytes there, {here[0]} here"
    return f"{path} is another file than here (its SHA-256 differs)"


def _model(config: RunConfig) -> dict[str, Any] | None:
    """Sizes of a folder's files, or the commit of a cached hub model; None where there is neither."""
    name = config.model_name
    if names_a_folder(name):
        folder = Path(name).expanduser()
        files = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
        return {"files": {path.name: path.stat().st_size for path in files}} if files else {"files": {}}
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=config.model_revision)
    return {"commit": Path(found).parent.name} if isinstance(found, str) else None


def _model_problem(own: dict[str, Any] | None, there: dict[str, Any] | None) -> list[str]:
    if own is None or there is None or own == there:
        return []
    if "commit" in own:
        return [f"has the model at commit {there.get('commit')}, here it is {own['commit']}; set model_revision"]
    differ = differing(own["files"], there["files"])
    return [f"the model's folder differs: {', '.join(differ[:3])}; copy it from here"]


def _gpu_problem(found: int, host: Host, environment: Mapping[str, str]) -> list[str]:
    if environment.get("DS_ACCELERATOR") == "cpu" or found >= host.slots:
        return []
    return [f"has {found} GPUs, the hostfile says slots={host.slots}; look at nvidia-smi there"]


def _pinned(root: Path) -> list[str]:
    path = root / REQUIREMENTS
    return re.findall(r"^([A-Za-z0-9_.-]+)==", read_text(path, "requirements"), re.MULTILINE) if path.is_file() else []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _training(config: RunConfig) -> str | None:
    record, supervised = read_record()
    if record and supervised:
        return f"process {record.pid} on {os.uname().nodename}"
    running = find_unsupervised(config.output_dir, supervised=False)
    return str(running[0]) if running else None
