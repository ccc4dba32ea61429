"""Answers of many people, of weighted people, of names in place of amounts, and of people who were left out."""

import json
import runpy

import numpy as np
import pytest
from processes import ROOT, run_script

from socrates.data.records import Cell
from socrates.errors import SocratesError
from socrates.evaluation.cells import Distribution, ScoredRow
from socrates.evaluation.gate import check_comparable, decide, decision_text
from socrates.evaluation.improvement import results_improvement
from socrates.evaluation.metrics import score
from socrates.evaluation.people import replicates
from socrates.evaluation.results import read_metrics

SCALE = (1, 2, 3, 4, 5)
ANSWERS = {0: [1, 2, 2, 3, 5, 5, 4, 2], 1: [5, 5, 4, 3, 4, 1]}  # of each condition's people
TELLS = {0: (0.1, 0.4, 0.2, 0.2, 0.1), 1: (0.3, 0.1, 0.1, 0.1, 0.4)}


def people_rows(*, weights=None, **fields):
    return [
        ScoredRow(Cell("s", condition, 1), answer, 3, Distribution(SCALE, TELLS[condition]), SCALE, **fields)
        if weights is None
        else ScoredRow(
            Cell("s", condition, 1), answer, 3, Distribution(SCALE, TELLS[condition]), SCALE, weight=weights[index]
        )
        for condition, answers in ANSWERS.items()
        for index, answer in enumerate(answers)
    ]


def of_many(**fields):
    return [
        ScoredRow(
            Cell("s", condition, 1),
            None,
            3,
            Distribution(SCALE, TELLS[condition]),
            SCALE,
            counts={answer: answers.count(answer) for answer in set(answers)},
            **fields,
        )
        for condition, answers in ANSWERS.items()
    ]


@pytest.mark.parametrize("nominal", [False, True])
def test_counts_score_as_the_same_answers_of_people(nominal):
    people, many = score(people_rows(nominal=nominal)), score(of_many(nominal=nominal))
    pairs = zip((*people.scored, *people.nominal), (*many.scored, *many.nominal), strict=True)
    for one, other in pairs:
        for name in ("wasserstein_distance", "total_variation", "uniform_guess", "empirical_best", "human_mean"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-12), name
    if not nominal:
        assert many.metrics.mae is None and many.metrics.accuracy is None and many.metrics.wasserstein_drawn is None
        assert many.coverage.rows_of_many == 2 and many.coverage.human_answers == 14


def test_two_people_of_equal_weight_are_two_and_one_who_outweighs_the_others_makes_no_nan():
    cell, tells = Cell("s", 0, 1), Distribution(SCALE, TELLS[0])
    pair = [ScoredRow(cell, answer, 3, tells, SCALE, weight=0.7) for answer in (1, 5)]
    assert score(pair).cells[0].n_human == 2
    assert score([pair[0]], {cell: {1: 1, 5: 1}}).cells[0].predicted_variance is None
    asked = [ScoredRow(cell, answer, 3, tells, SCALE, weight=weight) for answer, weight in ((1, 1e9), (5, 1e-9))]
    assert 0 <= score(asked, {cell: {1: 2, 5: 2}}).metrics.wasserstein_distance <= 1


def test_counts_of_groups_weigh_by_their_people():
    cell = Cell("s", 0, 1)
    answers = Distribution((1, 2), (1.0, 0.0)), Distribution((1, 2), (0.0, 1.0))
    rows = [
        ScoredRow(cell, None, 1, distribution, (1, 2), counts={1: people / 2, 2: people / 2})
        for distribution, people in zip(answers, (30, 10), strict=True)
    ]
    (scored,) = score(rows).cells
    assert scored.predicted_distribution == {1: 0.75, 2: 0.25} and scored.n_human == 40


def test_a_weight_counts_as_so_many_people_and_the_effective_number_of_people_falls():
    weights = [3, 1, 2, 1, 1, 3, 1, 1]
    repeated = [row for row, weight in zip(people_rows(), [*weights, *weights[:6]], strict=True) for _ in range(weight)]
    weighted, expected = score(people_rows(weights=weights)), score(repeated)
    for one, other in zip(weighted.cells, expected.cells, strict=True):
        total = sum(other.human_answers.values())
        shares = {answer: people / one.n_human for answer, people in one.human_answers.items()}
        assert shares == pytest.approx(
            {answer: people / total for answer, people in other.human_answers.items()}, abs=1e-12
        )
        for name in ("human_mean", "predicted_mean", "wasserstein_drawn", "predicted_distribution"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-12), name
    assert weighted.cells[0].n_human == pytest.approx(13**2 / 27)  # Kish: (sum of w)^2 / sum of w^2
    # The distance of everybody drawn is that of so many people: more than of the 13 who would be repeated.
    assert weighted.metrics.wasserstein_distance > expected.metrics.wasserstein_distance
    assert score(people_rows(weights=[7] * 8)).metrics == score(people_rows()).metrics


def test_nominal_answers_score_the_same_under_every_numbering_and_as_known():
    rng = np.random.default_rng(3)
    rows = [
        ScoredRow(
            Cell("s", condition, 1),
            int(rng.choice(SCALE, p=TELLS[condition])),
            1,
            Distribution(SCALE, tuple(rng.dirichlet(np.ones(5)))),
            SCALE,
            nominal=True,
        )
        for condition in (0, 1)
        for _ in range(100)  # more than the jackknife's groups
    ]
    known = {Cell("s", condition, 1): dict(zip(SCALE, (80, 50, 30, 20, 20), strict=True)) for condition in (0, 1)}
    known = {
        cell: {a: n + sum(r.response == a and r.cell == cell for r in rows) for a, n in counts.items()}
        for cell, counts in known.items()
    }
    before = score(rows, known)
    for _ in range(5):
        new = dict(zip(SCALE, rng.permutation(SCALE).tolist(), strict=True))
        renamed = [
            ScoredRow(
                row.cell, new[row.response], new[row.prediction],
                Distribution(tuple(map(new.get, SCALE)), row.distribution.probabilities), SCALE, nominal=True,
            )
            for row in rows
        ]  # fmt: skip
        humans = {cell: {new[answer]: people for answer, people in counts.items()} for cell, counts in known.items()}
        assert vars(score(renamed, humans).nominal_metrics) == pytest.approx(vars(before.nominal_metrics), abs=1e-12)
    assert before.metrics.wasserstein_distance is None and before.metrics.mae is None and not before.scored
    drawn = [
        ScoredRow(Cell("s", 0, 1), answer, guess, nominal=True) for answer, guess in ((1, 1), (1, 3), (2, 3), (2, 2))
    ]
    assert score(drawn).nominal_metrics.total_variation == 0.5


def line(person, condition, answer, probabilities, task=1, **fields):
    return {
        "study_id": "s", "condition_num": condition, "task_num": task, "participant": person, "response": answer,
        "predicted_distribution": dict(zip(map(str, SCALE), probabilities, strict=True)), "scale": "1 to 5", **fields,
    }  # fmt: skip


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Writes results with a share of what people answer; the script's own main, in this process."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    main = runpy.run_path(str(ROOT / "scripts" / "score_predictions.py"))["main"]

    def write(name, quality, *, ordinal=True, nominal=True):
        rng = np.random.default_rng(7)
        lines = []
        for person in range(40):
            for condition in (0, 1):
                for task, is_nominal in ((1, False), (2, True)):
                    answer = int(rng.choice(SCALE, p=TELLS[condition]))
                    tells = quality * np.array(TELLS[condition]) + (1 - quality) * np.array([0, 0, 1, 0, 0])
                    said = {"nominal": True} if is_nominal else {}
                    if ordinal if not is_nominal else nominal:
                        lines.append(line(person, condition, answer, tells.tolist(), task, **said))
        return scored(name, lines)

    def scored(name, lines):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))
        assert main([str(tmp_path / f"{name}.jsonl"), "--output", str(tmp_path / name)]) == 0
        assert main([str(tmp_path / name), "--output", str(tmp_path / "again"), "--overwrite"]) == 0
        names = "wasserstein_distance", "nominal", "coverage", "bounds", "effects"
        once, again = (read_metrics(tmp_path / folder / "metrics.json") for folder in (name, "again"))
        assert {key: once[key] for key in names} == {key: again[key] for key in names}
        return tmp_path / name / "metrics.json"

    write.scored = scored
    return write


def many(condition, answers, **fields):
    counts = {str(answer): answers.count(answer) for answer in {*answers}}
    return {**line(None, condition, None, TELLS[condition]), "counts": counts, **fields}


def test_counts_and_codes_of_missing_answers_are_read_from_lines(results, tmp_path):
    lines = [many(condition, [*answers, 9], missing=[9]) for condition, answers in ANSWERS.items()]
    lines[0] |= {"scale": dict.fromkeys("123459", "label"), "counts": {**lines[0]["counts"], "7": 0}}
    metrics = read_metrics(results.scored("many", lines))
    assert metrics["coverage"]["missing_answers"] == 2 and metrics["coverage"]["human_answers"] == 14
    result = run_script("report.py", "many", "--output", "many.html", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    persons = [line(person, 0, answer, TELLS[0], missing=[5]) for person, answer in enumerate(ANSWERS[0])]
    coverage = read_metrics(results.scored("persons", persons))["coverage"]
    assert (coverage["missing_answers"], coverage["human_answers"]) == (2, 6)


def decided(*paths):
    compared = check_comparable(*map(read_metrics, paths), names=("baseline", "checkpoint"))
    return decide(*compared, interval=results_improvement(paths, compared))


def test_the_gate_says_which_distance_it_decides_on(results, capsys):
    mixed = decided(results("before", 0.2), results("after", 0.9))
    assert mixed.decision == "GO" and mixed.decided_on == "wasserstein_distance"
    assert "2 of the 4 cells are nominal, and not in this distance" in decision_text(mixed)
    assert mixed.supporting_signals["Nominal TV"]["verdict"] == "better"
    assert "Total variation, nominal:" in capsys.readouterr().out
    names = decided(results("before2", 0.2, ordinal=False), results("after2", 0.9, ordinal=False))
    assert names.decided_on == "total_variation" and names.improvement_ci95[0] > 5
    assert decision_text(names).startswith("Total Variation (nominal outcomes):\n")
    plain = decided(results("before3", 0.2, nominal=False), results("after3", 0.9, nominal=False))
    assert plain.baseline_distance == mixed.baseline_distance and "Nominal TV" not in plain.supporting_signals
    with pytest.raises(SocratesError, match="cannot be compared"):
        decided(results("before4", 0.2), results("after4", 0.9, nominal=False))


@pytest.mark.parametrize("claimed", ["wasserstein_distance", "nominal"])
def test_a_gate_over_people_refuses_lines_that_are_not_of_the_distance_claimed(results, claimed):
    kind = {"ordinal": claimed == "nominal", "nominal": claimed != "nominal"}
    paths = [results(name, 0.5, **kind) for name in ("before", "after")]
    said = {"total_variation": 0.2, "uniform_guess": 0.3, "empirical_best": 0.1}
    for path in paths:
        claims = {"wasserstein_distance": 0.2, "nominal": None, "scope": "of people"}
        claims |= {"wasserstein_distance": None, "nominal": said} if claimed == "nominal" else {}
        path.write_text(json.dumps({**read_metrics(path), "bounds": said, **claims}))
    with pytest.raises(SocratesError, match="is not of the metrics"):
        decided(*paths)


def test_a_report_of_nominal_outcomes_says_so(results, tmp_path):
    results("before", 0.2, ordinal=False), results("after", 0.9, ordinal=False)
    page = tmp_path / "report.html"
    result = run_script("report.py", "before", "after", "--output", str(page), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    text = " ".join(page.read_text().split())
    assert "What is called W on this page is the total variation" in text


def test_leaving_people_out_tells_how_far_another_sample_of_people_would_be(tmp_path):
    """The jackknife's standard error against the spread over fresh samples of people."""
    rng = np.random.default_rng(11)

    def sample():
        """Each person answers three questions alike, so that questions are not independent."""
        lines = []
        for person in range(80):
            lean = rng.choice(5, p=TELLS[0])
            for task in (1, 2, 3):
                answer = int(SCALE[lean] if rng.random() < 0.7 else rng.choice(SCALE))
                one = line(person, 0, answer, TELLS[1], task)
                lines.append({**one, "sample_id": None, "line": len(lines) + 1, "prediction": 3, "valid_mass": None})
        return lines

    def distance(scores):
        return np.array([scores.metrics.wasserstein_distance])

    def rows(lines):
        from socrates.evaluation.cells import human_answers_of
        from socrates.evaluation.lines import scored_row

        scored = [scored_row(one) for one in lines]
        return scored, human_answers_of(scored)

    fresh = [distance(score(*rows(sample())))[0] for _ in range(200)]
    found = []
    for _ in range(8):
        lines = sample()
        one = replicates(lines, rows(lines)[1], seed=1, numbers=distance)[:, 0]
        found.append(np.sqrt((len(one) - 1) * one.var()))
    assert np.mean(found) == pytest.approx(np.std(fresh), rel=0.25)
