"""The folder of a prediction: answers are asked for once, everything else is made from them again.

Covers: every file is whole or absent; `asked.json` says what `answers.jsonl` answers and is written after it; the files
of another prediction are kept until a new one has all its answers, those of another program for good.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socrates.checkpoint import MANIFEST
from socrates.config import without_gone
from socrates.data.records import read_jsonl
from socrates.errors import SocratesError
from socrates.files import read_json, remove_file, write_json, write_jsonl
from socrates.inference.journal import UNFINISHED, differing
from socrates.report.html import read_start

PROGRAM = "scripts/predict.py"
ASKED, ANSWERS, RECORD, PAGE = "asked.json", "answers.jsonl", "predict.json", "predict.html"
TABLES = ("predictions.csv", "distributions.csv", "means.csv", "differences.csv")
_PICTURE = re.compile(r"predict-[a-z]+-[0-9]+\.png")


@dataclass(frozen=True)
class Finished:
    """All answers, and how they came about.

    Attributes:
        answers: `prompts.kept_answer` of every prompt, by key.
        about: the model, for the record.
        seconds: that asking took.
    """

    answers: list[dict[str, Any]]
    about: dict[str, Any]
    seconds: float


def check_folder(output: Path) -> None:
    """SocratesError where the folder is a checkpoint or holds files by our names that no prediction accounts for.

    Nothing is ever written to a checkpoint, nor over what another program or a person wrote.
    """
    if (output / MANIFEST).exists():
        raise SocratesError(f"{output}: is a checkpoint, to which nothing is written; choose another --output")
    if (output / ASKED).exists():
        _read_record(output)
    elif not (output / UNFINISHED).exists() and (found := _made_files(output)):
        raise SocratesError(
            f"{output}: holds {found[0].name}, and no {ASKED} that says where it is from; choose another --output, or "
            "move it away"
        )


def read_finished(output: Path, asked: Mapping[str, Any], prompts: int) -> Finished | None:
    """What a folder holds, if it answers what is to be asked; None where it holds nothing.

    Args:
        output: the folder.
        asked: what makes the answers what they are.
        prompts: how many.

    Raises:
        SocratesError: it holds another prediction, or files of another program.
    """
    if not (output / ASKED).exists():
        return None
    recorded, about, seconds = _read_record(output)
    recorded, about = without_gone(recorded, str(output / ASKED)), without_gone(about, str(output / ASKED))
    if differences := differing(recorded, asked):
        others = " of other texts, people or seed" * (recorded.get("prompts") != asked.get("prompts"))
        raise SocratesError(
            f"{output}: holds another prediction{others}: {differences}; choose another --output, or replace it with "
            "--overwrite"
        )
    answers = _read_answers(output / ANSWERS, prompts)
    if answers is None:
        print(f"{output / ANSWERS}: is gone or damaged; asking again", flush=True)
        return None
    return Finished(answers, about, seconds)


def write_answers(output: Path, finished: Finished, keys: Callable[[int], Mapping[str, Any]]) -> None:
    """Write the answers, each with ``keys`` of its own: names may change while what is asked stays the same."""
    write_jsonl(output / ANSWERS, ({**answer, **keys(answer["key"])} for answer in finished.answers))


def write_finished(
    output: Path, finished: Finished, asked: Mapping[str, Any], keys: Callable[[int], Mapping[str, Any]]
) -> None:
    """Remove what an earlier prediction left, what tells of its answers last; write the answers, then what they answer.

    Args:
        output: the folder, see `check_folder`.
        finished: the new answers.
        asked: what makes them what they are.
        keys: what names a prompt, by its key.
    """
    for path in [*_made_files(output), output / ASKED]:
        remove_file(path)
    write_answers(output, finished, keys)
    record = {"program": PROGRAM, "asked": dict(asked), "about": finished.about, "seconds": finished.seconds}
    write_json(output / ASKED, record)


def remove_pictures(output: Path) -> None:
    """Remove the pictures of an earlier page, of which a new one may have fewer."""
    for path in _made_pictures(output):
        remove_file(path)


def _made_files(output: Path) -> list[Path]:
    names = [output / name for name in (RECORD, PAGE, *TABLES, ANSWERS)]
    return [*(path for path in names if path.exists()), *_made_pictures(output)]


def _made_pictures(output: Path) -> list[Path]:
    """Those that this program wrote: a page's other files may have such names."""
    named = sorted(path for path in output.glob("predict-*.png") if _PICTURE.fullmatch(path.name))
    return [path for path in named if PROGRAM.encode() in (read_start(path) or b"")]


def _read_record(output: Path) -> tuple[dict[str, Any], dict[str, Any], float]:
    """(what was asked, about the model, seconds)."""
    record = read_json(output / ASKED, "record of what was asked")
    recorded, about, seconds = (record.get(key) for key in ("asked", "about", "seconds"))
    if (
        record.get("program") != PROGRAM
        or not isinstance(recorded, dict)
        or not isinstance(about, dict)
        or not isinstance(seconds, int | float)
    ):
        raise SocratesError(f"{output / ASKED}: {PROGRAM} did not write this file; choose another --output")
    return recorded, about, seconds


def _read_answers(path: Path, prompts: int) -> list[dict[str, Any]] | None:
    try:
        answers = [row for _, row in read_jsonl(path)]
    except SocratesError:
        return None
    whole = all(
        answer.get("key") == key
        and isinstance(answer.get("valid_mass"), float)
        and all(isinstance(answer.get(kind), dict) for kind in ("undecoded", "decoded"))
        for key, answer in enumerate(answers)
    )
    return answers if whole and len(answers) == prompts else None
