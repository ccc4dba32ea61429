"""Made-up results folders, written by the program's own writers: people who answer, and models that come near them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from socrates.data.records import Cell
from socrates.data.scales import Scale
from socrates.evaluation.lines import prediction_line, scored_row
from socrates.evaluation.metrics import METRIC_VERSION, score
from socrates.evaluation.results import comparability, write_results
from socrates.evaluation.sampling import sample_predictions

SCALES = ((1, 5), (1, 7), (0, 100), (0, 10), (1, 2), (0, 2000))
GROUPS = {"gender": ("female", "male"), "party_id": ("democrat", "independent", "republican")}
ASKED = 12  # people of a cell


def make_world(studies: int = 6, conditions: int = 3, people: int = 60, seed: int = 0) -> dict:
    """Cells: of each its scale, the distributions of people and of an untrained model over it, and people's answers."""
    rng = np.random.default_rng(seed)
    world = {}
    for study in range(studies):
        low, high = SCALES[study % len(SCALES)]
        x = np.linspace(0, 1, high - low + 1)
        centre, width, off = rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.35), rng.normal(0, 0.3)
        for condition in range(conditions):
            for task in range(2):
                shift = rng.normal(0, 0.08)
                human = _bell(x, centre + shift, width)
                wrong = _bell(x, centre + off + 0.3 * shift, width * 0.5)
                answers = low + rng.choice(len(x), size=max(4, rng.poisson(people)), p=human)
                scale = Scale(tuple(range(low, high + 1)))
                world[Cell(f"st{study:03}", condition, task)] = (scale, human, wrong, answers)
    return world


def write_made_results(folder: Path, world: dict, quality: float, *, model: str) -> dict:
    """Results of a model that is a share ``quality`` of the way from wrong to right."""
    lines, given = [], {}
    for cell, (scale, human, wrong, people) in world.items():
        chosen = quality * human + (1 - quality) * wrong
        distribution = {scale.values[0] + i: p for i, p in enumerate(chosen / chosen.sum()) if p > 1e-4}
        given[cell] = dict(Counter(map(int, people)))
        for person, answer in enumerate(people[:ASKED].tolist()):
            keys = {**cell._asdict(), "participant": person, "sample_id": person, "line": len(lines) + 1}
            known = {field: names[person % len(names)] for field, names in GROUPS.items()}
            said = {"distribution": distribution, "valid_mass": 0.97, "scale": scale, "demographic": known}
            said["probabilities"] = chosen
            lines.append(prediction_line(keys, answer, **said))
    lines = sample_predictions(lines, 42)
    decoding = {"temperature": 0.6, "top_p": 0.9}
    return write_results(
        folder,
        scores=score(map(scored_row, lines), given),
        predictions=lines,
        comparability=comparability(
            lines, seed=42, data_sha256="d" * 64, prompt_fingerprint="f" * 64, decoding=decoding
        ),
        about={
            "model": model,
            "settings": {"evaluation": {"max_examples": 5000}, "prompt": {"system_message": None}},
            "created": "2030-01-02T03:04:05+00:00",
            "versions": {"torch": "2.0", "transformers": "5.0"},
        },
        seen={"rows": 0, "of": len(lines), "studies": [], "split": "study"},
    )


def few_metrics(distance: float) -> dict:
    """The content of a `metrics.json` with no more than it must hold."""
    numbers = ("mae", "rmse", "correlation", "correlation_within_cells", "accuracy", "valid_mass")
    hashes = dict.fromkeys(("data_sha256", "rows_sha256", "prompt_fingerprint"), "f" * 64)
    decoding = {"temperature": 1.0, "top_p": 1.0}
    return {
        "wasserstein_distance": distance,
        **dict.fromkeys(numbers),
        "bounds": {"uniform_guess": 0.3, "empirical_best": 0.1},
        "coverage": {"rows_scored": 9, "cells_scored": 3},
        "comparability": {**hashes, "decoding": decoding, "seed": 42, "metric_version": METRIC_VERSION},
    }


def write_decision(folder: Path, baseline: dict, checkpoint: dict, **changes) -> None:
    before, after = baseline["wasserstein_distance"], checkpoint["wasserstein_distance"]
    improvement = (1 - after / before) * 100
    record = {
        "decision": "GO" if improvement >= 5 else "NO-GO",
        "improvement_percent": improvement,
        "improvement_printed": f"{improvement:.1f}%",
        "improvement_ci95": [improvement - 8, improvement + 7],
        "threshold_percent": 5.0,
        "require_significant": False,
        "baseline_distance": before,
        "checkpoint_distance": after,
        "notes": [],
        **changes,
    }
    (folder / "decision.json").write_text(json.dumps(record), encoding="utf-8")


def write_log(run: Path, steps: int = 500, every: int = 10) -> None:
    """A training's log, as the Trainer leaves it in its last checkpoint."""
    at = range(every, steps + 1, every)
    lines = [{"step": step, "loss": 1.2 + 1.5 * np.exp(-step / 90) + 0.03 * np.sin(step)} for step in at]
    lines += [{"step": step, "eval_loss": 1.3 + 1.4 * np.exp(-step / 90)} for step in at if step % 100 == 0]
    checkpoint = run / f"checkpoint-{steps}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": lines}), encoding="utf-8")


def _bell(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    weights = np.exp(-(((x - centre) / width) ** 2) / 2) + 1e-9
    return weights / weights.sum()
