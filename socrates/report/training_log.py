"""The losses and the learning rate of a run, from the trainer's log or, where that is gone, from a checkpoint.

Covers: a run that was broken off and went on from an earlier checkpoint: what it had logged beyond that is left out;
a last line that a kill cut off. Does not cover: time and money, which `status/` tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socrates.errors import SocratesError
from socrates.files import read_json, read_text
from socrates.report.results_folders import Results
from socrates.report.values import finite

TRAINING_LOG, TRAINER_STATE = "training_log.jsonl", "trainer_state.json"

Points = dict[int, float]  # step -> value


@dataclass(frozen=True)
class TrainingLog:
    """What was logged, by step; a series may be empty."""

    source: Path
    loss: Points
    eval_loss: Points
    learning_rate: Points


def find_log(results: Results, run: Path | None) -> TrainingLog | None:
    """The log of the run that a result is of.

    Args:
        results: whose `about.model` names the checkpoint, seen from the current folder or from the one that holds
            `evaluation_results`.
        run: the run's folder, where somebody named it.

    Raises:
        SocratesError: ``run`` holds no log, or a log that is there cannot be read.
    """
    if run is not None:
        checkpoints = sorted(
            (path for path in run.glob("checkpoint-*") if path.name.split("-")[1].isdigit()),
            key=lambda path: int(path.name.split("-")[1]),
        )
        found = _first_log([run / TRAINING_LOG, *(path / TRAINER_STATE for path in reversed(checkpoints))])
        if found is None:
            raise SocratesError(f"--run {run}: holds neither {TRAINING_LOG} nor a checkpoint with a {TRAINER_STATE}")
        return found
    model = results.about.get("model")
    if results.step is None or not isinstance(model, str):
        return None
    roots = [Path(), *results.folder.resolve().parents[2:3]]
    places = [root / model for root in roots]
    return _first_log(
        [*(place.parent / TRAINING_LOG for place in places), *(place / TRAINER_STATE for place in places)]
    )


def _first_log(paths: Iterable[Path]) -> TrainingLog | None:
    for path in paths:
        if path.is_file() and (lines := _lines(path)):
            return _log(path, lines)
    return None


def _lines(path: Path) -> list[Mapping[str, Any]]:
    if path.name == TRAINER_STATE:
        history = read_json(path, "trainer's state").get("log_history")
        lines = history if isinstance(history, list) else []
    else:
        lines = [_parsed(line) for line in read_text(path, "training log").splitlines()]
    return [line for line in lines if isinstance(line, Mapping) and isinstance(line.get("step"), int)]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _log(path: Path, lines: list[Mapping[str, Any]]) -> TrainingLog:
    log = TrainingLog(path, {}, {}, {})
    last = 0
    for line in lines:
        step = line["step"]
        if step < last:  # the run went on from an earlier checkpoint
            for points in (log.loss, log.eval_loss, log.learning_rate):
                for beyond in [at for at in points if at >= step]:
                    del points[beyond]
        last = step
        for points, key in ((log.loss, "loss"), (log.learning_rate, "learning_rate"), (log.eval_loss, "eval_loss")):
            if (value := finite(line.get(key))) is not None:
                at = line.get("eval_step") if key == "eval_loss" else None
                points[at if isinstance(at, int) else step] = value
    return log
