"""Training loss over the steps of the run, as the newest checkpoint's `trainer_state.json` has them.

A run that goes on from a checkpoint takes its history along, and forgets what was logged beyond it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from socrates.files import read_json
from socrates.report.plot import DARK, LINE, Plot, drawn, legend, thousands
from socrates.report.results_folders import Material, Results

TRAINER_STATE = "trainer_state.json"


class TrainingLog(NamedTuple):
    """What was logged; step -> value, ascending; a series may be empty."""

    source: Path
    loss: pd.Series
    eval_loss: pd.Series


def find_log(results: Results) -> TrainingLog | None:
    """The log of the run whose checkpoint was evaluated, seen from here or from where `evaluation_results` is.

    Raises:
        SocratesError: a log that is there cannot be read.
    """
    if not (model := results.metrics["about"].get("model")):
        return None
    run = Path(str(model)).parent
    for root in (Path(), *results.folder.resolve().parents[2:3]):
        states = (root / run).glob(f"checkpoint-*/{TRAINER_STATE}")
        if newest := max(states, key=lambda path: (len(path.parent.name), path), default=None):
            return _read_log(newest)
    return None


def _read_log(path: Path) -> TrainingLog:
    history = read_json(path, "trainer's state").get("log_history")
    lines = [line for line in history if isinstance(line, dict)] if isinstance(history, list) else []
    logged = pd.DataFrame(lines, columns=["step", "loss", "eval_loss"])
    logged = logged.apply(pd.to_numeric, errors="coerce").dropna(subset="step").astype({"step": int}).set_index("step")
    return TrainingLog(path, *(logged[name].dropna() for name in logged))


def training_part(material: Material) -> dict[str, Any]:
    """The curves of the trainer's log."""
    log = find_log(material.subject)
    known = log is not None and len(log.loss) > 0
    return {"log": log if known else None, "plots": (_picture(log),) if known else ()}


def _picture(log: TrainingLog) -> Plot:
    def draw(axes) -> None:
        curves = ((log.loss, "-", DARK, "training loss"), (log.eval_loss, "o--", LINE, "loss on evaluation rows"))
        for points, style, color, label in curves:
            if len(points):
                style = "o" if len(points) == 1 else style
                axes.plot(points, style, color=color, markerfacecolor="white", markersize=4, linewidth=1.3, label=label)
        axes.set(ylabel="loss", xlabel="step")
        thousands(axes.xaxis)
        legend(axes)

    first, last = log.loss.index[0], log.loss.index[-1]
    alt = f"Curves: training loss from {log.loss[first]:.3f} (step {first:,}) to {log.loss[last]:.3f} (step {last:,})."
    return drawn("Loss", 3.2, draw, alt, name="training")
