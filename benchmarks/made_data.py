"""Made-up answers in the published layout: as many as wanted, of the published data's shape, from a seed.

210 studies (170 "seen", 40 "unseen", with the published shares of rows), 1 to 96 conditions each, about 7 answers a
participant, up to 16 demographic fields, about 1,500 characters a prompt. In 45% of the studies, as counted in the
published data, a person answers the same question several times about other stimuli: here a profile of attributes
that is drawn anew for every row. In the others all people of a condition read the same text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import frame  # noqa: F401
import numpy as np

from socrates.data.records import render_prompt

SEEN, UNSEEN = 170, 40
_UNSEEN_ROWS = 482_642 / 2_901_390
_ANSWERS_A_PERSON = 7
_REPEATING = 0.45  # of the studies
_WORDS_READ = 165  # before the question
_ROWS_A_FILE, _ROWS_A_GROUP = 100_000, 10_000
_SCALES = ((1, 5), (1, 7), (0, 100), (0, 10), (1, 4), (1, 2))
_FIELDS = ("gender", "education", "employment", "ethnicity", "income", "party_id", "ideology", "location")
_FIELDS += ("marital_status", "household_size", "housing_ownership", "housing_type", "metro_status")
_FIELDS += ("internet_access", "phone_service")
_KINDS = ("Yes", "Lean Republican", "High school graduate", "Working - as a paid employee", "Other")


def make_data(folder: Path, rows: int, seed: int = 0) -> None:
    """Write rows as parquet files of 100,000 (`data/`), and the published list that splits them (`metadata/`).

    Args:
        folder: gets both.
        rows: at least 1.
        seed: of everything; the same seed gives the same files.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "metadata").mkdir(exist_ok=True)
    rng = np.random.default_rng([seed, 0])
    ids = _study_ids(rng)
    conditions = np.minimum(96, np.maximum(1, rng.geometric(0.15, size=len(ids))))
    conditions[:2] = 96, 1
    tasks = 1 + rng.integers(1, 20, size=len(ids))
    lists = {"seen": ids[:SEEN], "unseen": ids[SEEN:]}
    (folder / "metadata" / "participant_mapping.json").write_text(json.dumps(lists), encoding="utf-8")
    sizes = _sizes(rng, rows)
    stream = (
        row
        for number, size in enumerate(sizes)
        for row in _study(number, ids[number], int(size), int(conditions[number]), int(tasks[number]), seed)
    )
    files = -(-rows // _ROWS_A_FILE)
    schema = _schema(pa)
    for file in range(files):
        path = folder / "data" / f"train-{file:05d}-of-{files:05d}.parquet"
        with pq.ParquetWriter(path, schema) as writer:
            left = min(_ROWS_A_FILE, rows - file * _ROWS_A_FILE)
            while left:
                group = [next(stream) for _ in range(min(left, _ROWS_A_GROUP))]
                writer.write_table(pa.Table.from_pylist(group, schema))
                left -= len(group)


def _study(number: int, study_id: str, size: int, conditions: int, tasks: int, seed: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng([seed, 1, number])
    words = _words(seed)
    vignettes = [_text(rng, words, _WORDS_READ) for _ in range(conditions)]
    questions = [_question(rng, words) for _ in range(tasks)]
    repeating = rng.random() < _REPEATING
    attributes = [(f"{_word(rng, words).title()}", [_text(rng, words, 10) for _ in range(6)]) for _ in range(14)]
    made = participant = 0
    while made < size:
        persona, condition = _demographic(rng), int(rng.integers(conditions))
        for n in range(min(_ANSWERS_A_PERSON, size - made)):
            task = 0 if repeating and tasks > 1 else n % tasks
            question, (low, high) = questions[task]
            if repeating:
                drawn = rng.integers(6, size=len(attributes)).tolist()
                read = "; ".join(f"{name}: {texts[i]}" for (name, texts), i in zip(attributes, drawn, strict=True))
            else:
                read = vignettes[condition]
            stimuli = f"{read}\n\n{question}"
            yield {
                "sample_id": made,
                "participant": participant,
                "demographic": persona,
                "stimuli": stimuli,
                "prompt": render_prompt(persona, stimuli),
                "reasoning": "This person would weigh what was read against what they already thought of it.",
                "response": int(rng.integers(low, high + 1)),
                "condition_num": condition,
                "task_num": task,
                "study_id": study_id,
            }
            made += 1
        participant += 1


def _demographic(rng: np.random.Generator) -> dict[str, Any]:
    """All 16 fields, in the published order of the first; a third of them unknown."""
    known, drawn = rng.random(len(_FIELDS)) < 0.65, rng.integers(len(_KINDS), size=len(_FIELDS))
    values = {n: _KINDS[i] if there else None for n, there, i in zip(_FIELDS, known, drawn, strict=True)}
    return {"age": int(rng.integers(18, 90)), **values}


def _question(rng: np.random.Generator, words: list[str]) -> tuple[str, tuple[int, int]]:
    low, high = _SCALES[int(rng.integers(len(_SCALES)))]
    text = " ".join(_word(rng, words) for _ in range(14))
    return f"How much do you agree that {text}? Only return an integer from {low} to {high}, nothing else.", (low, high)


def _text(rng: np.random.Generator, words: list[str], count: int) -> str:
    """Sentences of some ten words; as in a language, some words are far more common than others."""
    chosen = [words[i] for i in (len(words) * rng.random(size=count) ** 3).astype(int).tolist()]
    sentences = [" ".join(chosen[i : i + 11]) for i in range(0, count, 11)]
    return " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences)


def _word(rng: np.random.Generator, words: list[str]) -> str:
    return words[int(rng.integers(len(words)))]


@lru_cache(maxsize=1)
def _words(seed: int, count: int = 6000) -> list[str]:
    """Made-up words, the short ones first."""
    rng = np.random.default_rng([seed, 2])
    parts = [c + v for c in "bcdfghlmnprstvw" for v in ("a", "e", "i", "o", "u", "ea", "or")]
    made = {"".join(parts[i] for i in rng.integers(len(parts), size=int(rng.integers(1, 5)))) for _ in range(count * 2)}
    return sorted(made, key=lambda word: (len(word), word))[:count]


def _study_ids(rng: np.random.Generator) -> list[str]:
    letters = np.array(list("abcdefghijkmnpqrstuvwxyz23456789"))
    ids = dict.fromkeys("".join(letters[rng.integers(len(letters), size=5)]) for _ in range(2 * (SEEN + UNSEEN)))
    return list(ids)[: SEEN + UNSEEN]


def _sizes(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Rows of each study: uneven, the unseen ones together with their published share."""
    weights = rng.lognormal(0, 0.8, size=SEEN + UNSEEN)
    weights[:SEEN] *= (1 - _UNSEEN_ROWS) / weights[:SEEN].sum()
    weights[SEEN:] *= _UNSEEN_ROWS / weights[SEEN:].sum()
    return np.diff(np.floor(np.concatenate([[0.0], np.cumsum(weights)]) / weights.sum() * rows + 1e-6).astype(int))


def _schema(pa: Any) -> Any:
    text, number = pa.string(), pa.int64()
    demographic = pa.struct([("age", number), *((name, text) for name in _FIELDS)])
    names = ("sample_id", "participant", "demographic", "stimuli", "prompt", "reasoning", "response")
    kinds = (number, number, demographic, text, text, text, number)
    return pa.schema(
        [*zip(names, kinds, strict=True), ("condition_num", number), ("task_num", number), ("study_id", text)]
    )
