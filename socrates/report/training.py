"""Training loss over the steps of the run, as the newest checkpoint's `trainer_state.json` has them.

A run that goes on from a checkpoint takes its history along, and forgets what was logged beyond it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from socrates.files import read_json
from socrates.report.plot import DARK, LINE, Plot, drawn, legend, thousands
from socrates.report.results_folders import Material, Results

TRAINER_STATE = "trainer_state.json"


def find_log(results: Results) -> tuple[Path, pd.DataFrame] | None:
    """The log of the run whose checkpoint was evaluated, seen from here or from where `evaluation_results` is.

    Returns:
        The file, and by ascending step what was logged of `loss` and `eval_loss`; NaN where nothing was.

    Raises:
        SocratesError: a log that is there cannot be read.
    """
    if not (model := results.metrics["about"].get("model")):
        return None
    run = Path(str(model)).parent
    for root in (Path(), *results.folder.resolve().parents[2:3]):
        states = (root / run).glob(f"checkpoint-*/{TRAINER_STATE}")
        if newest := max(states, key=lambda path: (len(path.parent.name), path), default=None):
            history = read_json(newest, "trainer's state", nan_is_null=True).get("log_history")
            lines = [line for line in history if isinstance(line, dict)] if isinstance(history, list) else []
            logged = pd.DataFrame(lines, columns=["step", "loss", "eval_loss"]).apply(pd.to_numeric, errors="coerce")
            return newest, logged.dropna(subset="step").astype({"step": int}).set_index("step")
    return None


def training_part(material: Material) -> dict[str, Any]:
    """The curves of the trainer's log."""
    source, logged = find_log(material.subject) or (None, pd.DataFrame(columns=["loss", "eval_loss"]))
    loss, eval_loss = logged["loss"].dropna(), logged["eval_loss"].dropna()
    plots = (_picture(loss, eval_loss),) if len(loss) else ()
    return {"source": source, "loss": loss, "eval_loss": eval_loss, "plots": plots}


def _picture(loss: pd.Series, eval_loss: pd.Series) -> Plot:
    def draw(axes) -> None:
        curves = ((loss, "-", DARK, "training loss"), (eval_loss, "o--", LINE, "loss on evaluation rows"))
        for points, style, color, label in curves:
            if len(points):
                style = "o" if len(points) == 1 else style
                axes.plot(points, style, color=color, markerfacecolor="white", markersize=4, linewidth=1.3, label=label)
        axes.set(ylabel="loss", xlabel="step")
        thousands(axes.xaxis)
        legend(axes)

    first, last = loss.index[0], loss.index[-1]
    alt = f"Curves: training loss from {loss[first]:.3f} (step {first:,}) to {loss[last]:.3f} (step {last:,})."
    return drawn("Loss", 3.2, draw, alt, name="training")
