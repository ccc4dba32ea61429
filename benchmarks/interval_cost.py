#!/usr/bin/env python3
"""Time and memory of a results folder with all its intervals, in a process of its own, for `bench_intervals.py`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

STUDIES, QUESTIONS, CONDITIONS, PEOPLE = 40, 10, 5, 50  # people of a cell
MOST_SECONDS, MOST_MIB = 10.0, 1024.0
_FALLING = (0.25, 0.2, 0.15, 0.15, 0.1, 0.1, 0.05)


@dataclass(frozen=True)
class Cost:
    """What a results folder took: CPU seconds, and peak resident memory of the process in MiB."""

    numbers: int  # that got an interval
    seconds: float
    mib: float
    scoring_seconds: float
    scoring_mib: float

    @property
    def within_limits(self) -> bool:
        """Whether both limits are kept."""
        return self.seconds <= MOST_SECONDS and self.mib <= MOST_MIB

    def text(self) -> str:
        """One paragraph."""
        return (
            f"A results folder of {STUDIES * QUESTIONS * CONDITIONS:,} cells of {PEOPLE} answers in {STUDIES} studies, "
            f"its files written, with {self.numbers} intervals of 10,000 resamples each (metrics, bounds, condition "
            f"differences, groups of 16 demographic fields, the improvement), in a process of its own: "
            f"{self.seconds:.1f} s of CPU time (at most {MOST_SECONDS:.0f}), {self.mib:.0f} MiB at its peak (at most "
            f"{MOST_MIB:.0f}). Before that, scoring the rows took {self.scoring_seconds:.1f} s and "
            f"{self.scoring_mib:.0f} MiB."
        )


def measured_cost() -> Cost:
    """Measure in a new process."""
    done = subprocess.run([sys.executable, __file__], check=True, stdout=subprocess.PIPE, text=True)
    return Cost(**json.loads(done.stdout))


def _measure() -> Cost:
    from socrates.evaluation.intervals import improvement_interval
    from socrates.evaluation.lines import scored_row
    from socrates.evaluation.metrics import score
    from socrates.evaluation.results import external_comparability, write_results

    lines = _lines()
    compared = external_comparability(lines, seed=0)
    started = time.process_time()
    scores = score(map(scored_row, lines))
    scored, scoring_mib = time.process_time(), _peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        written = write_results(folder, scores=scores, predictions=lines, comparability=compared, about={})
        distances = {cell.cell: cell.wasserstein_distance for cell in scores.scored}
        improvement_interval(distances, {cell: value * 0.9 for cell, value in distances.items()}, seed=0)
        seconds = time.process_time() - scored
    return Cost(_intervals(written) + 1, seconds, _peak_mib(), scored - started, scoring_mib)


def _lines() -> list[dict[str, Any]]:
    """Rows with a drawn answer and a distribution each, on scales from 1 to 7."""
    import numpy as np

    from socrates.data.scales import Scale
    from socrates.evaluation.lines import prediction_line

    rng = np.random.default_rng(0)
    scale = Scale(tuple(range(1, 8)))
    lines = []
    for cell in range(STUDIES * QUESTIONS * CONDITIONS):
        study, place = divmod(cell, QUESTIONS * CONDITIONS)
        keys = {"study_id": f"study {study:02}", "condition_num": place % CONDITIONS, "task_num": place // CONDITIONS}
        people, model = (rng.choice(scale.values, PEOPLE, p=p).tolist() for p in (_FALLING, _FALLING[::-1]))
        for person in range(PEOPLE):
            known = {f"field {number}": f"group {rng.integers(4)}" for number in range(15)} | {"age": 18 + person}
            lines.append(
                prediction_line(
                    {**keys, "participant": person, "sample_id": None, "line": len(lines) + 1},
                    people[person],
                    prediction=model[person],
                    distribution=dict(zip(scale.values, rng.dirichlet(np.ones(7)).tolist(), strict=True)),
                    valid_mass=float(rng.uniform(0.9, 1)),
                    scale=scale,
                    demographic=known,
                )
            )
    return lines


def _intervals(value: Any) -> int:
    """How many intervals stand in what was written."""
    if not isinstance(value, dict | list):
        return 0
    if isinstance(value, list):
        return sum(map(_intervals, value))
    found = sum(name.endswith("_ci95") and limits is not None for name, limits in value.items())
    return found + sum(map(_intervals, value.values()))


def _peak_mib() -> float:
    # Not getrusage: its peak starts with that of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


if __name__ == "__main__":
    json.dump(vars(_measure()), sys.stdout)
