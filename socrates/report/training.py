"""Training loss and learning rate over the steps of the run."""

from __future__ import annotations

from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import DARK, LINE, Plot
from socrates.report.training_log import Points, TrainingLog


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
    evaluated = [one.step for one in material.judged if one.step is not None]

    def draw(axes) -> None:
        upper, lower = axes if isinstance(axes, list) else (axes, None)
        _curve(upper, log.loss, "-", "training loss")
        if log.eval_loss:
            _curve(upper, log.eval_loss, "o--", "loss on judging rows")
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
            upper.plot([], [], ":", color="#777777", linewidth=0.8, label="judged")
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
