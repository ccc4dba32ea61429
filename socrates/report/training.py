"""Training loss and learning rate over the steps of the run, from its log or, where that is gone, a checkpoint's.

Covers: what a run that went on from an earlier checkpoint had logged beyond that is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from socrates.errors import SocratesError
from socrates.files import read_json, read_text
from socrates.report.plot import DARK, LINE, Plot, drawn, legend, thousands
from socrates.report.results_folders import Material, Results
from socrates.telemetry.log import TRAINING_LOG, LogLine, parse_log

TRAINER_STATE = "trainer_state.json"


@dataclass(frozen=True)
class TrainingLog:
    """What was logged; step -> value, ascending; a series may be empty."""

    source: Path
    loss: pd.Series
    eval_loss: pd.Series
    learning_rate: pd.Series


def find_log(results: Results, run: Path | None) -> TrainingLog | None:
    """The log of the run that a result is of.

    Args:
        results: whose `about.model` names the checkpoint, seen from the current folder or from the one that holds
            `evaluation_results`.
        run: the run's folder, where somebody named it.

    Raises:
        SocratesError: ``run`` holds no log, or a log that is there cannot be read.
    """
    model, runs = results.metrics["about"].get("model"), [run]
    if run is None:
        named = results.step is not None and isinstance(model, str)
        runs = [(root / model).parent for root in (Path(), *results.folder.resolve().parents[2:3])] if named else []
    for folder in runs:
        states = sorted(folder.glob(f"checkpoint-*/{TRAINER_STATE}"), key=lambda path: (len(path.parent.name), path))
        for path in (folder / TRAINING_LOG, *reversed(states)):
            if path.is_file() and (lines := _lines(path)):
                return _log(path, lines)
    if run is not None:
        raise SocratesError(f"--run {run}: holds neither {TRAINING_LOG} nor a checkpoint with a {TRAINER_STATE}")
    return None


def _lines(path: Path) -> list[LogLine]:
    if path.name != TRAINER_STATE:
        return parse_log(read_text(path, "training log").encode())
    history = read_json(path, "trainer's state").get("log_history")
    lines = [LogLine.parse(line) for line in history if isinstance(line, dict)] if isinstance(history, list) else []
    return [line for line in lines if line.step is not None]


def _log(path: Path, lines: list[LogLine]) -> TrainingLog:
    logged = pd.DataFrame(
        {
            "step": [line.step for line in lines],
            "eval_step": [line.step if line.eval_step is None else line.eval_step for line in lines],
            **{name: np.array([getattr(line, name) for line in lines], float) for name in _SERIES},
        }
    )
    later = logged["step"][::-1].cummin()[::-1]
    logged = logged[logged["step"] <= later]  # else a later attempt went on from an earlier step
    steps = {"eval_loss": "eval_step"}
    series = {name: logged.dropna(subset=[name]).groupby(steps.get(name, "step"))[name].last() for name in _SERIES}
    return TrainingLog(path, **series)


_SERIES = ("loss", "eval_loss", "learning_rate")


def training_part(material: Material) -> dict[str, Any]:
    """The curves of the trainer's log."""
    log = material.log if material.log is not None and len(material.log.loss) else None
    return {"log": log, "plots": (_picture(log, material),) if log else ()}


def _picture(log: TrainingLog, material: Material) -> Plot:
    evaluated = [one.step for one in material.evaluated if one.step is not None]

    def draw(axes) -> None:
        upper, lower = axes
        _curve(upper, log.loss, "-", "training loss")
        _curve(upper, log.eval_loss, "o--", "loss on evaluation rows")
        _curve(lower, log.learning_rate, "-", "")
        for panel in axes:
            for step in evaluated:
                panel.axvline(step, color="#777777", linewidth=0.8, linestyle=":")
        if evaluated:
            upper.plot([], [], ":", color="#777777", linewidth=0.8, label="evaluated")
        upper.set_ylabel("loss")
        upper.sharex(lower)
        upper.tick_params(labelbottom=False)
        lower.set(ylabel="learning rate", ylim=(0, None), xlabel="step")
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
        thousands(lower.xaxis)
        legend(upper)

    first, last = log.loss.index[0], log.loss.index[-1]
    alt = f"Curves: training loss from {log.loss[first]:.3f} (step {first:,}) to {log.loss[last]:.3f} (step {last:,})"
    if len(log.learning_rate):
        alt += f", and below it the learning rate, at most {log.learning_rate.max():.3g}"
    return drawn("Loss and learning rate", 4.4, draw, f"{alt}.", rows=2, ratios=(2.0, 1.0), name="training")


def _curve(axes: Any, points: pd.Series, style: str, label: str) -> None:
    style, color = ("o", DARK) if len(points) == 1 else (style, DARK if style == "-" else LINE)
    axes.plot(points.index, points.values, style, color=color, markerfacecolor="white", markersize=4, linewidth=1.3)
    if label and len(points):
        axes.lines[-1].set_label(label)
