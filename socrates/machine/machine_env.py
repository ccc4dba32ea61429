"""`machine.env`: what a machine wants in the environment of its trainings (HF_HOME, NCCL_…, DS_ACCELERATOR=cpu).

Covers: lines KEY=VALUE, taken as they stand. Does not cover: shell syntax, and secrets, which do not belong in a file.
"""

from __future__ import annotations

import re
from pathlib import Path

from socrates.errors import SocratesError
from socrates.files import read_text

MACHINE_ENV = "machine.env"
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "TNR_API_TOKEN")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL = re.compile(r"""[$`"']""")


def read_machine_env(path: Path | str = MACHINE_ENV) -> dict[str, str]:
    """The settings of the file; none where there is no such file.

    Raises:
        SocratesError: every line that cannot be taken, by number and never by content: it might be a secret.
    """
    if not Path(path).exists():
        return {}
    settings: dict[str, str] = {}
    problems = []
    for number, line in enumerate(read_text(path, "settings of this machine").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        problem = _problem(key, equals, value)
        if problem:
            problems.append(f"line {number}: {problem}")
        elif key in settings:
            problems.append(f"line {number}: {key} stands there twice; keep one")
        settings[key] = value
    if problems:
        raise SocratesError("\n  ".join([f"{path}: wants lines KEY=VALUE", *problems]))
    return settings


def _problem(key: str, equals: str, value: str) -> str | None:
    if key.startswith("export "):
        return 'leave out "export"; the file is not read by a shell'
    if not equals:
        return "no = in it"
    if not _KEY.fullmatch(key):
        return "what stands before the = is no name (letters, digits and _; no spaces around the =)"
    if key in SECRETS:
        return f"{key} is a secret and must not lie in a file: export it where the training is started"
    if _SHELL.search(value) or "\0" in value:
        return f"{key}: the value is taken as it stands: without quotes, and with nothing that a shell would replace"
    return None
