"""The folder of a prediction: answers are asked for once, everything else is made from them again.

Covers: every file is whole or absent; `asked.json` says what `answers.jsonl` answers and is written after it; the files
of another prediction are kept until a new one has all its answers, those of another program for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from socrates.checkpoint import MANIFEST
from socrates.config import without_gone
from socrates.data.records import read_jsonl
from socrates.errors import SocratesError
from socrates.files import read_json, remove_file, sha256_json, write_json, write_jsonl
from socrates.inference.journal import UNFINISHED, differing
from socrates.schema import Schema

PROGRAM = "scripts/predict.py"
ASKED, ANSWERS, RECORD, PAGE = "asked.json", "answers.jsonl", "predict.json", "predict.html"
TABLES = ("predictions.csv", "distributions.csv", "means.csv", "codes.csv", "differences.csv")
IF_ANY = ("codes.csv", "pilot.csv", "mixed_subjects.csv")  # tables that are there where there is something in them
PICTURES = ("distributions", "differences", "compared")  # of each question


class Asked(Schema):
    """What `asked.json` says of the answers: what makes them what they are, the model, the seconds that asking took."""

    program: Literal["scripts/predict.py"] = PROGRAM
    asked: dict[str, Any]
    about: dict[str, Any]
    seconds: float
    answers_sha256: str = ""  # of what was answered, whatever it is called in the file


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


def read_finished(output: Path, asked: Mapping[str, Any]) -> tuple[Asked, list[dict[str, Any]]] | None:
    """What a folder holds, if it answers what is to be asked; None where it holds nothing, or its answers were changed.

    Args:
        output: the folder, see `check_folder`.
        asked: what makes the answers what they are.

    Raises:
        SocratesError: it holds another prediction.
    """
    if not (output / ASKED).exists():
        return None
    record = _read_record(output)
    if differences := differing(record.asked, asked):
        others = " of other texts, people or seed" * (record.asked.get("prompts") != asked["prompts"])
        raise SocratesError(
            f"{output}: holds another prediction{others}: {differences}; choose another --output, or replace it with "
            "--overwrite"
        )
    try:
        answers = [row for _, row in read_jsonl(output / ANSWERS)]
        is_whole = record.answers_sha256 == _digest(answers)
    except (SocratesError, ValueError):
        is_whole = False
    if not is_whole:
        print(f"{output / ANSWERS}: is gone or damaged; asking again", flush=True)
        return None
    return record, answers


def _digest(answers: Iterable[Mapping[str, Any]]) -> str:
    kept = ("key", "undecoded", "decoded", "valid_mass")
    return sha256_json([[answer.get(name) for name in kept] for answer in answers])


def write_finished(output: Path, record: Asked, answers: Sequence[dict[str, Any]]) -> None:
    """Remove what an earlier prediction left, what tells of its answers last; write the answers, then what they answer.

    The answers are those to every prompt, by key.
    """
    for path in [*_made_files(output), output / ASKED]:
        remove_file(path)
    write_jsonl(output / ANSWERS, answers)
    write_json(output / ASKED, record.model_dump() | {"answers_sha256": _digest(answers)})


def pictures_in(output: Path) -> list[Path]:
    """Those of a prediction in its folder; what a person made of one has another name."""
    made = re.compile(rf"predict-({'|'.join(PICTURES)})-[0-9]+\.png")
    return [path for path in output.glob("predict-*.png") if made.fullmatch(path.name)]


def _read_record(output: Path) -> Asked:
    content = read_json(output / ASKED, "record of what was asked")
    try:
        return Asked.model_validate(without_gone(content, str(output / ASKED)))
    except ValidationError as error:
        raise SocratesError(f"{output / ASKED}: {PROGRAM} did not write this file; choose another --output") from error


def _made_files(output: Path) -> list[Path]:
    names = [output / name for name in (RECORD, PAGE, *{*TABLES, *IF_ANY}, ANSWERS)]
    return [*(path for path in names if path.exists()), *pictures_in(output)]
