#!/usr/bin/env python3
r"""Measure the conversion of a large CSV: rows a second, and the most memory that it takes.

    venv/bin/python benchmarks/bench_convert.py --megabytes 100                                 # ten seconds
    venv/bin/python benchmarks/bench_convert.py --output benchmarks/results/bench_convert.md    # five minutes, 6 GB

The table is made up: an answer a row, with what the person read, the question's text, a weight and four demographics.
`scripts/convert_data.py` converts it in a process of its own, whose largest resident memory the kernel tells.

Exit status: 0 measured, 1 it took 1 GiB or more, 2 cannot.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import frame
import numpy as np

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point

_MOST_GIB = 1.0
_QUESTIONS = {f"q{number}": f"How fair is proposal {number} to those who pay for it?" for number in range(20)}
_HEAD = ("study", "person", "arm", "age", "gender", "education", "party", "wgt", "vignette", "item", "text", "answer")
_COLUMNS = {
    **{"study_column": "study", "person": "person", "condition": "arm", "stimulus": "vignette", "weight": "wgt"},
    **{"demographics": {"age": "age", "gender": "gender", "education": "education", "party_id": "party"}},
    **{"question": "item", "text": "text", "answer": "answer", "scale": "1 to 7"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print."""
    parser = frame.arguments(__doc__)
    frame.add_count(parser, "--megabytes", 2000, "of the CSV")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="for the files, which are removed at the end")
    a = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=a.work) as folder:
        table, columns, rows = (Path(folder) / name for name in ("answers.csv", "columns.json", "rows.jsonl"))
        columns.write_text(json.dumps(_COLUMNS), encoding="utf-8")
        number = _write_table(table, a.megabytes * 10**6, a.seed)
        command = [sys.executable, str(frame.ROOT / "scripts" / "convert_data.py"), table, "--columns", columns]
        started = time.perf_counter()
        process = subprocess.Popen([*command, "--output", rows], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            raise SocratesError(f"convert_data.py ended with exit status {os.waitstatus_to_exitcode(status)}")
        sizes, cpu = [file.stat().st_size / 1e9 for file in (table, rows)], used.ru_utime + used.ru_stime
    memory = used.ru_maxrss / 2**20  # the kernel counts in KiB
    head = ("CSV (GB)", "rows", "JSONL (GB)", "seconds", "CPU seconds", "rows a second of CPU", "peak memory (GiB)")
    line = (f"{sizes[0]:.2f}", f"{number:,}", f"{sizes[1]:.2f}", f"{seconds:.0f}", f"{cpu:.0f}", f"{number / cpu:,.0f}")
    text = (
        f"# A large CSV converted\n\nMachine: {frame.machine(None, ('pandas', 'pyarrow', 'pyreadstat'))}.\n"
        "An answer a row, with what was read, a weight and four demographics; memory: the largest resident set of "
        f"`scripts/convert_data.py`.\n\n{frame.table(head, [(*line, f'{memory:.2f}')], left=0)}\n"
        + frame.aim(f"peak memory under {_MOST_GIB:g} GiB", f"{memory:.2f}", memory < _MOST_GIB)
    )
    frame.publish(text, a.output)
    return EXIT_DONE if memory < _MOST_GIB else EXIT_NO


def _write_table(path: Path, size: int, seed: int) -> int:
    """Write a CSV of about so many bytes; returns its number of rows."""
    rng, person = np.random.default_rng(seed), 0
    words = ("city", "writes", "fee", "on", "parking", "pays", "for", "trams", "schools", "and", "the", "night", "bus")
    vignettes = [" ".join(rng.choice(words, 60)) for _ in range(8)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_HEAD)
        while file.tell() < size:
            for _ in range(1000):
                arm, answers = person % 8, rng.integers(1, 8, len(_QUESTIONS)).tolist()
                about = (f"study{person // 2000}", person, arm, 18 + person % 70, ("Female", "Male")[person % 2])
                about = (
                    *about,
                    "Bachelor's degree",
                    f"party {person % 3}",
                    round(0.5 + person % 11 / 10, 2),
                    vignettes[arm],
                )
                writer.writerows(
                    (*about, *asked, answer) for asked, answer in zip(_QUESTIONS.items(), answers, strict=True)
                )
                person += 1
    return person * len(_QUESTIONS)


if __name__ == "__main__":
    run_entry_point(main)
