"""Made-up results folders, written by the program's own writers: people who answer, and models that come near them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from socrates.data.records import Cell
from socrates.data.scales import Scale
from socrates.evaluation.lines import prediction_line, sample_predictions, scored_row
from socrates.evaluation.metrics import score
from socrates.evaluation.results import comparability, write_results

SCALES = ((1, 5), (1, 7), (0, 100), (0, 10), (1, 2), (0, 2000))
GROUPS = {"gender": ("female", "male"), "party_id": ("democrat", "independent", "republican")}
DECODING = {"temperature": 0.6, "top_p": 0.9}


@dataclass(frozen=True)
class World:
    """Cells, what people answer in them, and where an untrained model goes wrong."""

    human: dict[Cell, np.ndarray]  # distribution over the scale
    wrong: dict[Cell, np.ndarray]
    people: dict[Cell, np.ndarray]  # answers
    scales: dict[Cell, tuple[int, int]]


def make_world(studies: int = 6, conditions: int = 3, people: int = 60, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    world = World({}, {}, {}, {})
    for study in range(studies):
        low, high = SCALES[study % len(SCALES)]
        x = np.linspace(0, 1, high - low + 1)
        centre, width = rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.35)
        off = rng.normal(0, 0.3)
        for condition in range(conditions):
            for task in range(2):
                cell = Cell(f"st{study:03}", condition, task)
                shift = rng.normal(0, 0.08)
                world.human[cell] = _bell(x, centre + shift, width)
                world.wrong[cell] = _bell(x, centre + off + 0.3 * shift, width * 0.5)
                world.people[cell] = low + rng.choice(len(x), size=max(4, rng.poisson(people)), p=world.human[cell])
                world.scales[cell] = (low, high)
    return world


def write_made_results(
    folder: Path, world: World, quality: float, *, model: str, asked: int = 12, seed: int = 42, drawn: bool = False
) -> dict:
    """Results of a model that is a share ``quality`` of the way from wrong to right."""
    lines, given = [], {}
    for cell, people in world.people.items():
        low, high = world.scales[cell]
        scale = Scale(tuple(range(low, high + 1)))
        chosen = quality * world.human[cell] + (1 - quality) * world.wrong[cell]
        distribution = {low + i: p for i, p in enumerate(chosen / chosen.sum()) if p > 1e-4}
        given[cell] = dict(Counter(map(int, people)))
        for person, answer in enumerate(people[:asked].tolist()):
            keys = {**cell._asdict(), "participant": person, "sample_id": person, "line": len(lines) + 1}
            prediction = max(distribution, key=distribution.get) if drawn else None
            line = prediction_line(
                keys,
                answer,
                prediction=prediction,
                distribution=None if drawn else distribution,
                valid_mass=None if drawn else 0.97,
                scale=scale,
                demographic={field: names[person % len(names)] for field, names in GROUPS.items()},
            )
            lines.append(line)
    lines = sample_predictions(lines, seed)
    return write_results(
        folder,
        scores=score(map(scored_row, lines), given),
        predictions=lines,
        comparability=comparability(
            lines, seed=seed, data_sha256="d" * 64, prompt_fingerprint="f" * 64, decoding=DECODING
        ),
        about={
            "model": model,
            "base_model": "Qwen/Qwen2.5-14B-Instruct",
            "data_file": "data/socsci210_full/val.jsonl",
            "settings": {"evaluation": {"max_examples": 5000}, "prompt": {"system_message": None}},
            "dtype": "bfloat16",
            "device": "cuda",
            "created": "2030-01-02T03:04:05+00:00",
            "versions": {"torch": "2.0", "transformers": "5.0"},
        },
        seen={"rows": 0, "of": len(lines), "studies": [], "split": "study"},
    )


def write_decision(folder: Path, baseline: dict, checkpoint: dict, **changes) -> dict:
    before, after = baseline["wasserstein_distance"], checkpoint["wasserstein_distance"]
    improvement = (1 - after / before) * 100
    record = {
        "decision": "GO" if improvement >= 5 else "NO-GO",
        "improvement_percent": improvement,
        "improvement_printed": f"{improvement:.1f}%",
        "improvement_ci95": [improvement - 8, improvement + 7],
        "threshold_percent": 5.0,
        "require_significant": False,
        "baseline_wasserstein_distance": before,
        "checkpoint_wasserstein_distance": after,
        "notes": [],
        **changes,
    }
    (folder / "decision.json").write_text(json.dumps(record), encoding="utf-8")
    return record


def write_log(run: Path, steps: int = 500, every: int = 10) -> Path:
    """A training's log, as the Trainer leaves it in its last checkpoint."""
    at = np.arange(every, steps + 1, every)
    lines = [
        {
            "step": step,
            "loss": 1.2 + 1.5 * np.exp(-step / 90) + 0.03 * np.sin(step),
        }
        for step in at.tolist()
    ]
    lines += [{"step": step, "eval_loss": 1.3 + 1.4 * np.exp(-step / 90)} for step in at.tolist() if step % 100 == 0]
    checkpoint = run / f"checkpoint-{steps}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": lines}), encoding="utf-8")
    return run


def _bell(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    weights = np.exp(-(((x - centre) / width) ** 2) / 2) + 1e-9
    return weights / weights.sum()
