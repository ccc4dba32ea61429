"""One temperature on a model's answers: found again, and learning told apart from widening."""

import numpy as np
import pytest
from made_results import few_metrics

from socrates.config import UNDECODED
from socrates.data.records import Cell
from socrates.data.scales import Scale
from socrates.evaluation.calibration import calibrated, fit_temperatures
from socrates.evaluation.gate import check_comparable, decide, decision_text
from socrates.evaluation.lines import prediction_line, scored_row
from socrates.evaluation.metrics import score
from socrates.evaluation.results import comparability, write_results
from socrates.evaluation.sampling import sample_predictions


def made_lines(temperature, rows=5000, studies=20, said_at=1.0):
    """A model says p^(1 / said_at), people answer by p^(1 / temperature); p is partly the cell's, partly each one's."""
    rng, lines = np.random.default_rng(7), []
    of_cell = rng.normal(0, 1.3, (studies, 10, 101))
    for i in range(rows):
        study, task = i % studies, i // studies % 10
        top = (2, 5, 7, 11, 101)[study % 5]
        p = np.exp(of_cell[study, task, :top] + rng.normal(0, 0.7, top))
        human, said = p ** (1 / temperature), p ** (1 / said_at)
        keys = {**Cell(f"s{study}", 0, task)._asdict(), "participant": i, "sample_id": i, "line": i + 1}
        answer = 1 + rng.choice(top, p=human / human.sum())
        distribution = {a + 1: x for a, x in enumerate(said)}
        given = {"probabilities": said, "distribution": distribution, "valid_mass": 1.0}
        lines.append(prediction_line(keys, answer, scale=Scale(tuple(range(1, top + 1))), **given))
    return sample_predictions(lines, 0)


@pytest.mark.parametrize("temperature", [0.5, 0.8, 1, 1.7, 3])
def test_a_known_temperature_is_found_again(temperature):
    every, of_others = fit_temperatures(made_lines(temperature))
    assert every == pytest.approx(temperature, rel=0.05) and every not in of_others.values()
    assert list(of_others.values()) == pytest.approx([temperature] * 20, rel=0.06)


def test_a_study_is_calibrated_by_the_others():
    """Two studies with temperatures of their own are given each other's; one alone has none."""
    first = made_lines(0.5, studies=1)
    second = [{**line, "study_id": "other"} for line in made_lines(2, studies=1)]
    _, of_others = fit_temperatures(first + second)
    assert [of_others[name] for name in ("other", "s0")] == pytest.approx([0.5, 2], rel=0.1)
    assert fit_temperatures(first) is None
    assert fit_temperatures([{**line, "probabilities": None} for line in first + second]) is None
    assert calibrated({"1": 0.2, "2": 0.8}, 0.5) == pytest.approx({"1": 0.04 / 0.68, "2": 0.64 / 0.68})


def test_what_only_became_wider_has_the_same_calibrated_distance(tmp_path):
    results = {}
    for name, said_at in (("narrow", 0.4), ("wide", 1.2)):
        lines = made_lines(1.5, rows=2000, said_at=said_at)
        identity = comparability(
            lines, seed=0, data_sha256="d", prompt_fingerprint="f", decoding=UNDECODED.model_dump()
        )
        written = {"predictions": lines, "comparability": identity, "about": {}}
        results[name] = write_results(tmp_path / name, scores=score(map(scored_row, lines)), **written)
    narrow, wide = results.values()
    assert [one["calibration"]["temperature"] for one in (narrow, wide)] == pytest.approx([1.5 / 0.4, 1.25], rel=0.1)
    assert narrow["wasserstein_calibrated"] == pytest.approx(wide["wasserstein_calibrated"], rel=1e-4)
    low, high = wide["wasserstein_calibrated_ci95"]
    assert low < wide["wasserstein_calibrated"] < high
    text = decision_text(decide(*check_comparable(narrow, wide, ("a", "b"))))
    assert "✅ GO" in text and "most of this is width, not learning: with each model's answers at" in text


@pytest.mark.parametrize(
    ("distances", "calibrated", "said"),
    [
        ((0.2, 0.15), (0.150, 0.1426), "most of this is width, not learning"),  # 25% and 4.9%
        ((0.2, 0.189), (0.150, 0.1426), "some of this is width, not learning"),  # 5.5% and 4.9%
        ((0.2, 0.15), (0.150, 0.1425), None),  # 5% is the threshold
        ((0.2, 0.195), (0.150, 0.120), "decoding hides it: with each model's answers at the temperature that fits"),
        ((0.2, 0.195), (0.150, 0.149), None),
        ((0.2, 0.15), (None, 0.15), None),
    ],
)
def test_the_gate_says_where_width_decides(distances, calibrated, said):
    both = [
        few_metrics(distance) | {"wasserstein_calibrated": other}
        for distance, other in zip(distances, calibrated, strict=True)
    ]
    text = decision_text(decide(*check_comparable(*both, ("a", "b"))))
    assert (said or "Calibrated W") in text
    assert said or not ("width" in text or "hides" in text)
