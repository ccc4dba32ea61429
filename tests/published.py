"""Made-up rows in the two published layouts, as parquet or JSONL, with their split files; nobody gave these answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from socrates.data.records import render_prompt

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "socsci210_sample"
needs_sample = pytest.mark.skipif(
    not SAMPLE.is_dir(), reason=f"{SAMPLE} is absent: real answers have no licence and are not part of this repository"
)
WORDS = ("lake", "tram", "orchard", "tax", "river", "school", "nurse", "market", "night", "bus", "park", "fee")


def study_names(studies: int) -> list[str]:
    return [f"mad{i:02}" for i in range(studies)]


def made_rows(
    studies: int = 10, people: int = 12, conditions: int = 2, words: int = 60, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Rows study by study; the later a study, the more people it has, so that no two are of one size."""
    for number, study in enumerate(study_names(studies)):
        rng, sample_ids = np.random.default_rng([seed, number]), count()
        for person in range(people + number):
            condition = person % conditions
            demographic = {
                "age": 18 + person,
                "gender": "Female" if person % 2 else "Male",
                "education": None if person % 5 == 0 else "Post grad “study”",
                "party_id": f"party {number}",
                "marital_status": None,
            }
            for task in range(2):
                text = " ".join(rng.choice(WORDS, words)) if words else ""
                stimuli = (
                    f"Condition {condition} of {study}: {text}. You were asked: "
                    f"“How warm is question {task} of {study}?” "
                    "Only return an integer from 1 to 7, nothing else."
                )
                yield {
                    "study_id": study,
                    "condition_num": condition,
                    "task_num": task,
                    "participant": person,
                    "sample_id": next(sample_ids),
                    "demographic": demographic,
                    "stimuli": stimuli,
                    "prompt": render_prompt(demographic, stimuli),
                    "reasoning": "because",
                    "response": int(rng.integers(1, 8)),
                }


def instruction_row(row: dict[str, Any]) -> dict[str, Any]:
    """A published row in the instruction layout, which has no task_num."""
    known = {name: value for name, value in row["demographic"].items() if value is not None}
    names = {"party_id": "Political affiliation"}
    persona = "; ".join(f"{names.get(n, n.replace('_', ' ').capitalize())}: {value}" for n, value in known.items())
    return {
        "instruction": "Predict how they would respond.",
        "input": f"Demographics: {persona}\n\nScenario: {row['stimuli']}",
        "output": f"Response: {row['response']}",
        **{name: row[name] for name in ("study_id", "condition_num", "participant", "sample_id")},
    }


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Sequence[dict[str, Any]], row_group_size: int = 50) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=row_group_size)
    return path


def write_mappings(folder: Path, studies: int = 10, conditions: int = 2) -> Path:
    """All three published lists; the last four studies judge, and in the others the last condition and question."""
    names = study_names(studies)
    numbers = {
        kind: {name: {"train": list(range(number - 1)), "eval": [number - 1]} for name in names[:-1]}
        for kind, number in (("condition", conditions), ("task", 2))
    }
    lists = {"participant": {"seen": names[:-4], "unseen": names[-4:]}, **numbers}
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    for kind, mapping in lists.items():
        (folder / "metadata" / f"{kind}_mapping.json").write_text(json.dumps(mapping))
    return folder


def published_folder(folder: Path, kind: str = "parquet", files: int = 3, **sizes: int) -> Path:
    """A whole data set: ``files`` data files of a kind ("parquet", "jsonl" or "instruction") and the lists."""
    rows = list(made_rows(**sizes))
    each = -(-len(rows) // files)
    for i in range(files):
        some, name = rows[i * each : (i + 1) * each], f"train-{i:05}-of-{files:05}"
        if kind == "parquet":
            write_parquet(folder / "data" / f"{name}.parquet", some)
        else:
            some = [instruction_row(row) for row in some] if kind == "instruction" else some
            write_rows(folder / "data" / f"{name}.jsonl", some)
    return write_mappings(folder, **{name: sizes[name] for name in ("studies", "conditions") if name in sizes})
