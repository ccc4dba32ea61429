"""A tokenized set on disk, `tokenized-<fingerprint>/`: named by all that went into it, mapped into memory by all ranks.

`data.arrow` holds `input_ids` and `answer_tokens`: how many of them, at the end, carry loss: the answer's and the
end-of-turn token. What the chat template puts after the end of the turn is left out (its line break alone would be a
third of the supervised tokens). `info.json` counts, `cells.json` names the cells of the data file (`contamination.py`),
`participants.json` its people, where it is part of a split by person; `people.npy` is `people.py`'s table of the rows.

Covers: a file that was cut off (by a copy, say) is refused. Does not cover: bytes that change in place.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from socrates.config import PromptSettings
from socrates.data import shorten as shortening
from socrates.data.encode import tokenizer_json
from socrates.errors import SocratesError, first_line
from socrates.files import read_json, sha256_json
from socrates.model.chat import prompt_fingerprint

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

VERSION = 4  # raise it when the same rows would give other ids
ROWS, INFO, CELLS, PEOPLE = "data.arrow", "info.json", "cells.json", "participants.json"
TABLE = "people.npy"


def tokenized_fingerprint(
    data_sha256: str, tokenizer: PreTrainedTokenizerBase, settings: PromptSettings, max_length: int
) -> str:
    """16 hexadecimal digits over data, tokenizer, chat template, prompt text, length limit and how rows are made."""
    return sha256_json(
        {
            "version": VERSION,
            "shortening": [shortening.VERSION, shortening.MARK, shortening.LEAST_KEPT],
            "data": data_sha256,
            "tokenizer": tokenizer_json(tokenizer),
            "template": tokenizer.chat_template,
            "system": settings.system_message,
            "prompt": prompt_fingerprint(tokenizer, settings),
            "max_length": max_length,
        }
    )[:16]


def read_info(folder: Path) -> dict[str, Any]:
    """What is known about a tokenized set: counts ("rows", "tokens", …; see `Counts`) and the "bytes" of its file.

    Raises:
        SocratesError: the set is not whole; says what to do.
    """
    info = _read_json(folder, INFO, "tokenized set's info")
    size = (folder / ROWS).stat().st_size if (folder / ROWS).is_file() else 0
    if size != info.get("bytes"):
        raise SocratesError(
            f"{folder}/{ROWS}: {size} bytes, not {info.get('bytes')}: cut off, by a copy perhaps; {_remedy(folder)}"
        )
    return info


def read_contents(folder: Path) -> dict[str, Any]:
    """What `training_data.json` says of the data file that a set was made of, dropped rows too.

    Its "cells" and, only where it was split by person, the "participants" of each study.

    Raises:
        SocratesError: the set is not whole.
    """
    contents = {"cells": _read_json(folder, CELLS, "tokenized set's cells")}
    if (folder / PEOPLE).is_file():
        contents["participants"] = _read_json(folder, PEOPLE, "tokenized set's participants")
    return contents


def load_tokenized(folder: Path) -> tuple[Dataset, dict[str, Any]]:
    """The rows (`input_ids`, `answer_tokens`; int32), mapped into memory, and what `read_info` gives.

    Raises:
        SocratesError: the set is not whole.
    """
    from datasets import Dataset

    info = read_info(folder)
    try:
        return Dataset.from_file(str(folder / ROWS)).with_format("numpy"), info
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise SocratesError(f"{folder}/{ROWS}: cannot be read: {first_line(error)}; {_remedy(folder)}") from error


def read_table(folder: Path) -> np.ndarray:
    """What `People.table` gave; SocratesError where it is not there, as in sets of earlier versions, or not whole."""
    try:
        return np.load(folder / TABLE)
    except (OSError, ValueError, EOFError) as error:
        problem = f"{TABLE}, from which rows_per_cell chooses, cannot be read: {first_line(error)}"
        raise SocratesError(f"{folder}: {problem}; {_remedy(folder)}") from error


def _read_json(folder: Path, name: str, what: str) -> dict[str, Any]:
    try:
        return read_json(folder / name, what)
    except SocratesError as error:
        raise SocratesError(f"{folder}: not a whole tokenized set: {error}; {_remedy(folder)}") from error


def _remedy(folder: Path) -> str:
    return f"remove the folder ({shlex.join(['rm', '-r', str(folder)])}), and the same command makes it anew"
