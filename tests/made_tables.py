"""Twelve small tables in the layouts that people have, made up and seeded, each with a `columns.json` for it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyreadstat

FAIR, TRUST, WARM = "How fair is the tax?", "Do you trust the mayor?", "How warm do you feel about the city, 0 to 100?"
TEXTS = {"fair": FAIR, "trust": TRUST, "warm": WARM}
LABELS = {1: "Never", 2: "Seldom", 3: "Sometimes", 4: "Often", 5: "Always"}
WITH_REFUSED = {**LABELS, 99: "Refused"}
READ = {"control": "Nothing was said.", "letter": "The city writes: pay; it is “fair”."}
SCALES = {"fair": "1 to 7", "trust": "1 to 5", "warm": "0 to 100"}


class Made(NamedTuple):
    columns: dict[str, Any]  # as a person writes it by hand
    files: list[Path]
    guessed: bool = True  # whether the guess says the same


def people(number: int = 60) -> list[dict[str, Any]]:
    rng = np.random.default_rng(19)
    return [
        {
            "id": 100 + i,
            "arm": ("letter", "control")[i % 2],
            "age": int(rng.integers(18, 90)),
            "sex": ("Female", "Male", None)[i % 3],
            "fair": 1 + i % 7,
            "trust": int(rng.integers(1, 6)),
            "warm": None if i % 5 == 4 else int(rng.integers(0, 101)),
        }
        for i in range(number)
    ]


def long_rows() -> list[dict[str, Any]]:
    """One answer a row."""
    return [
        {
            **{"participant": one["id"], "condition": one["arm"], "age": one["age"], "gender": one["sex"]},
            **{"question": name, "question_text": TEXTS[name], "answer": one[name]},
        }
        for one in people()
        for name in TEXTS
    ]


LONG = {
    **{
        "study": "made",
        "person": "participant",
        "condition": "condition",
        "demographics": {"age": "age", "gender": "gender"},
    },
    **{"question": "question", "text": "question_text", "answer": "answer"},
    "questions": {name: {"scale": scale} for name, scale in SCALES.items()},
}
WIDE = {
    **{"study": "made", "person": "id", "condition": "arm", "demographics": {"age": "age", "gender": "sex"}},
    "questions": {name: {"text": TEXTS[name], "scale": scale} for name, scale in SCALES.items()},
}


def write_table(path: Path, rows: Iterable[dict[str, Any]], delimiter: str, encoding: str, end: str = "\n") -> Path:
    rows = list(rows)
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
        writer.writerows([rows[0].keys(), *(row.values() for row in rows)])
    return path


def comma_long(folder: Path) -> Made:
    return Made(LONG, [write_table(folder / "long.csv", long_rows(), ",", "utf-8")])


def semicolon_wide(folder: Path) -> Made:  # the texts stand nowhere in it
    return Made(WIDE, [write_table(folder / "wide.csv", people(), ";", "utf-8")], guessed=False)


def tab_long_with_stimulus(folder: Path) -> Made:
    rows = [{**row, "vignette": READ[row["condition"]]} for row in long_rows()]
    return Made({**LONG, "stimulus": "vignette"}, [write_table(folder / "long.tsv", rows, "\t", "utf-8")])


def bom_wide(folder: Path) -> Made:
    """As forms export it: the header holds the questions."""
    made = [
        {**{"Timestamp": "2026-01-01", "Subject ID": one["id"], "Age": one["age"]}, FAIR: one["fair"]}
        for one in people()
    ]
    columns = {"study": "made", "person": "Subject ID", "demographics": {"age": "Age"}}
    asked = {FAIR: {"text": FAIR, "scale": "1 to 7"}}
    return Made({**columns, "questions": asked}, [write_table(folder / "form.csv", made, ",", "utf-8-sig")])


def latin_long(folder: Path) -> Made:
    rows = [{**row, "question_text": f"Wie fair ist Müllers Straße? ({row['question']})"} for row in long_rows()]
    return Made(LONG, [write_table(folder / "latin.csv", rows, ";", "cp1252")])


def windows_long(folder: Path) -> Made:
    """With line breaks in quoted texts, and the condition's text as a reader of the file knows it."""
    rows = [{**row, "question_text": f"Think of it.\r\n{row['question_text']}"} for row in long_rows()]
    return Made(LONG, [write_table(folder / "windows.csv", rows, ",", "utf-8", "\r\n")])


def statistics_frame() -> pd.DataFrame:
    frame = pd.DataFrame(people()).drop(columns="warm").rename(columns={"id": "caseid", "arm": "treatment"})
    frame["treatment"] = (frame["treatment"] == "letter").astype(float)
    frame["sex"] = frame["sex"].map({"Female": 1.0, "Male": 2.0}).fillna(9)
    frame.loc[frame.index % 10 == 3, "trust"] = 99
    frame["wgt"] = np.random.default_rng(1).uniform(0.4, 1.6, len(frame)).round(3)
    return frame


def _statistics(write: Callable[..., None], path: Path, **more: Any) -> Made:
    write(
        statistics_frame(),
        path,
        column_labels={"fair": FAIR, "trust": TRUST},
        variable_value_labels={
            **{"treatment": {0: "control", 1: "letter"}, "sex": {1: "Female", 2: "Male", 9: "Refused"}},
            **{"fair": {1: "Unfair", 7: "Fair"}, "trust": WITH_REFUSED},
        },
        **more,
    )
    columns = {**WIDE, "person": "caseid", "condition": "treatment", "weight": "wgt", "questions": ["fair", "trust"]}
    return Made(columns, [path])


def spss(folder: Path) -> Made:
    return _statistics(pyreadstat.write_sav, folder / "survey.sav", missing_ranges={"trust": [99]})


def stata(folder: Path) -> Made:
    return _statistics(pyreadstat.write_dta, folder / "survey.dta")


def excel(folder: Path) -> Made:
    pd.DataFrame(people()).to_excel(folder / "wide.xlsx", index=False)
    return Made(WIDE, [folder / "wide.xlsx"], guessed=False)


def qualtrics(folder: Path) -> Made:
    """Choice texts in place of numbers, a matrix and a slider; 99 is what the survey recodes "Refused" to."""
    names = ["StartDate", "Progress", "ResponseId", "arm", "Q1", "Q2_1", "Q2_2", "Q3_1"]
    texts = ["Start Date", "Progress", "Response ID", "arm", FAIR, "Trust? - The mayor", "Trust? - The police", WARM]
    ids = ["startDate", "progress", "_recordId", "arm", "QID1", "QID2_1", "QID2_2", "QID3_1"]
    rows = [
        [
            *("2026-01-01", "100", f"R_{one['id']}", one["arm"], f"F{one['fair']}"),
            *(WITH_REFUSED[99] if one["id"] == 103 else LABELS[one["trust"]], LABELS[6 - one["trust"]], one["warm"]),
        ]
        for one in people()
    ]
    with (folder / "export.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [names, texts, [json.dumps({"ImportId": name}, separators=(",", ":")) for name in ids], *rows]
        )
    trust = {str(place): {"Display": label} for place, label in enumerate(WITH_REFUSED.values(), 1)}
    asked = {
        "QID1": {
            **{"QuestionText": f"<p>{FAIR}</p>", "QuestionType": "MC", "Selector": "SAVR"},
            "Choices": {str(8 - n): {"Display": f"F{n}"} for n in range(1, 8)},
            "RecodeValues": {str(8 - n): str(n) for n in range(1, 8)},
        },
        "QID2": {
            **{"QuestionText": "Trust?", "QuestionType": "Matrix", "Selector": "Likert", "Answers": trust},
            "Choices": {"1": {"Display": "The&nbsp;mayor"}, "2": {"Display": "The police"}},
            "RecodeValues": {"6": "99"},
        },
        "QID3": {
            **{"QuestionText": WARM, "QuestionType": "Slider", "Choices": {"1": {"Display": ""}}},
            "Configuration": {"CSSliderMin": 0, "CSSliderMax": 100},
        },
    }
    survey = {"SurveyElements": [{"Element": "SQ", "PrimaryAttribute": q, "Payload": p} for q, p in asked.items()]}
    (folder / "survey.qsf").write_text(json.dumps(survey), encoding="utf-8")
    columns = {"study": "made", "person": "ResponseId", "condition": "arm", "questions": ["Q1", "Q2_1", "Q2_2", "Q3_1"]}
    return Made(columns, [folder / "export.csv"])


def json_array(folder: Path) -> Made:
    rows = [{**row, "demographic": {"age": row.pop("age"), "gender": row.pop("gender")}} for row in long_rows()]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    columns = {**LONG, "demographics": {"age": "demographic.age", "gender": "demographic.gender"}}
    return Made(columns, [folder / "rows.json"])


def parquet(folder: Path) -> Made:
    frame = pd.DataFrame(long_rows()).astype({"condition": "category", "gender": "category", "question": "category"})
    frame["answer"] = [
        None if pd.isna(value) else Decimal(int(value)).quantize(Decimal("0.00")) for value in frame["answer"]
    ]
    frame["age"] = frame["age"].where(frame.index % 7 > 0).astype("float64")
    frame.to_parquet(folder / "rows.parquet")
    return Made(LONG, [folder / "rows.parquet"])


_ALL = (comma_long, semicolon_wide, tab_long_with_stimulus, bom_wide, latin_long, windows_long, spss, stata, excel)
KINDS: dict[str, Callable[[Path], Made]] = {made.__name__: made for made in (*_ALL, qualtrics, json_array, parquet)}
