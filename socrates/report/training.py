"""Training loss and learning rate over the steps of the run, from its log or, where that is gone, a checkpoint's.

Covers: what a run that went on from an earlier checkpoint had logged beyond that is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from socrates.errors import SocratesError
from socrates.files import read_json, read_text
from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import DARK, LINE, Plot
from socrates.report.results_folders import Results
from socrates.telemetry.log import TRAINING_LOG, LogLine, parse_log

TRAINER_STATE = "trainer_state.json"

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


def _lines(path: Path) -> list[LogLine]:
    if path.name != TRAINER_STATE:
        return parse_log(read_text(path, "training log").encode())
    history = read_json(path, "trainer's state").get("log_history")
    lines = [LogLine.parse(line) for line in history if isinstance(line, Mapping)] if isinstance(history, list) else []
    return [line for line in lines if line.step is not None]


def _log(path: Path, lines: list[LogLine]) -> TrainingLog:
    log = TrainingLog(path, {}, {}, {})
    last = 0
    for line in lines:
        if line.step < last:  # the run went on from an earlier checkpoint
            for points in (log.loss, log.eval_loss, log.learning_rate):
                for beyond in [at for at in points if at >= line.step]:
                    del points[beyond]
        last = line.step
        evaluated = line.step if line.eval_step is None else line.eval_step
        for points, step, value in (
            (log.loss, line.step, line.loss),
            (log.learning_rate, line.step, line.learning_rate),
            (log.eval_loss, evaluated, line.eval_loss),
        ):
            if value is not None:
                points[step] = value
    return log


def training_part(material: Material) -> Part:
    """The curves of the trainer's log."""
    title, log = "Training", material.log
    if log is None or not log.loss:
        return Part("training", title, ("No log of the training was found; name the run's folder with --run DIR.",))
    steps = sorted(log.loss)
    lines = [
        f"The loss is that of the answer's digits and end token. It went from {log.loss[steps[0]]:.3f} at step "
        f"{steps[0]:,} to {log.loss[steps[-1]]:.3f} at step {steps[-1]:,}."
    ]
    if log.eval_loss:
        last = max(log.eval_loss)
        lines.append(f"On rows that it was not trained on: {log.eval_loss[last]:.3f} at step {last:,}.")
    if rates := log.learning_rate:
        peak = max(rates, key=lambda step: rates[step])
        lines.append(f"The learning rate was highest at step {peak:,}: {rates[peak]:.3g}.")
    lines.append(f"From {log.source}.")
    return Part("training", title, tuple(lines), (_picture(log, material),))


def _picture(log: TrainingLog, material: Material) -> Plot:
    evaluated = [one.step for one in material.evaluated if one.step is not None]

    def draw(axes) -> None:
        upper, lower = axes if isinstance(axes, list) else (axes, None)
        _curve(upper, log.loss, "-", "training loss")
        if log.eval_loss:
            _curve(upper, log.eval_loss, "o--", "loss on evaluation rows")
        upper.set_ylabel("loss")
        panels = [upper]
        if lower is not None:
            _curve(lower, log.learning_rate, "-", None)
            lower.set_ylabel("learning rate")
            lower.set_ylim(0, None)
            lower.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
            upper.sharex(lower)
            upper.tick_params(labelbottom=False)
            panels.append(lower)
        for panel in panels:
            for step in evaluated:
                panel.axvline(step, color="#777777", linewidth=0.8, linestyle=":")
            panel.tick_params(labelsize=SMALL)
        if evaluated:
            upper.plot([], [], ":", color="#777777", linewidth=0.8, label="evaluated")
        panels[-1].set_xlabel("step")
        panels[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        upper.figure.legend(loc="outside lower left", ncols=3, columnspacing=1.0)

    steps = sorted(log.loss)
    alt = (
        f"Curves: training loss from {log.loss[steps[0]]:.3f} (step {steps[0]:,}) to {log.loss[steps[-1]]:.3f} "
        f"(step {steps[-1]:,})"
    )
    if log.learning_rate:
        alt += f", and below it the learning rate, at most {max(log.learning_rate.values()):.3g}"
    rows = 2 if log.learning_rate else 1
    ratios = (2.0, 1.0) if rows == 2 else None
    return picture(
        "Loss and learning rate", 2.0 + 1.2 * rows, draw, alt + ".", rows=rows, ratios=ratios, name="training"
    )


def _curve(axes, points: Points, style: str, label: str | None) -> None:
    steps = sorted(points)
    single = len(steps) == 1
    axes.plot(
        steps,
        [points[step] for step in steps],
        "o" if single else style,
        color=DARK if style == "-" else LINE,
        markerfacecolor="white",
        markersize=4,
        linewidth=1.3,
        label=label,
    )
