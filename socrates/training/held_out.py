"""Held-out rows: a small fixed sample of the evaluation rows, on which the loss is taken while training.

Covers: the same rows in every run and on every process, spread over the whole file, without reading it.
Does not cover: the metric (`evaluate.py`): this is the loss that training lowers, on rows that it does not see.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socrates.data.records import parse_answer
from socrates.errors import SocratesError
from socrates.model.chat import answer_token_ids, end_of_turn_id, prompt_token_ids
from socrates.training.batches import FlatBatch, flatten, plan_step

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def held_out_rows(
    path: Path, count: int, tokenizer: PreTrainedTokenizerBase, system_message: str | None, max_length: int
) -> list[dict[str, Any]]:
    """Tokenized rows (`input_ids`, `answer_tokens`) of lines at equal distances in the file, without too long ones.

    Raises:
        SocratesError: no such file, no rows, or a bad row among those that are taken.
    """
    end, rows = end_of_turn_id(tokenizer), []
    for start, line in _lines_at_equal_distances(path, count).items():
        try:
            answer = parse_answer(json.loads(line), path, 0)
        except (SocratesError, ValueError) as error:
            raise SocratesError(f"{path}: the row that begins at byte {start} is bad: {error}") from error
        (ids,) = prompt_token_ids(tokenizer, [answer.prompt], system_message)
        answer_ids = [*answer_token_ids(tokenizer, answer.response), end]
        if len(ids) + len(answer_ids) <= max_length:
            rows.append({"input_ids": [*ids, *answer_ids], "answer_tokens": len(answer_ids)})
    if not rows:
        raise SocratesError(
            f'{path}: no row of at most {max_length} tokens to watch; set "training.eval_steps" to null'
        )
    return rows


def held_out_batches(
    rows: Sequence[dict[str, Any]], process: int, processes: int, micro_batch_tokens: int
) -> tuple[FlatBatch, ...]:
    """This process's share of them."""
    plan = plan_step([len(row["input_ids"]) for row in rows], processes, micro_batch_tokens)
    return tuple(flatten([rows[i] for i in batch]) for batch in plan.shares[process] if batch)


def _lines_at_equal_distances(path: Path, count: int) -> dict[int, bytes]:
    """The first complete line from each of ``count`` places on, by where it begins; fewer in a shorter file."""
    found: dict[int, bytes] = {}
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            for part in range(count):
                file.seek(part * size // count)
                if file.tell():
                    file.readline()  # of which the beginning is behind us
                start = file.tell()
                if (line := file.readline()).strip():
                    found[start] = line
    except OSError as error:
        raise SocratesError(
            f'{path}: cannot read: {error.strerror or error}; upload it, or set "training.eval_steps" to null'
        ) from error
    return found
