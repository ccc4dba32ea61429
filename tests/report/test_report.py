"""The report: what it says is what the files say; what is missing is named; what another program wrote stays."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_results import few_metrics, make_world, write_decision, write_log, write_made_results
from processes import run_loaded

from socrates.errors import SocratesError
from socrates.report.calibration import read_calibration
from socrates.report.cells import cells_to_show
from socrates.report.page import PICTURES, make_report, read_material, write_report
from socrates.report.plot import make_bars
from socrates.report.results_folders import Results, Value, comparability_differences, fixed
from socrates.report.studies import compare_studies
from socrates.report.training import find_log

RUN = "models/made-run"
KEYS = ["decision", "distances", "studies", "cells", "effects", "calibration", "groups", "training", "basis"]


def run(*arguments, cwd):
    return run_loaded("report.py", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of a baseline and two checkpoints of one run, as they lie after a validation."""
    root = tmp_path_factory.mktemp("made")
    world = make_world()
    write_log(root / RUN)
    folders = {"baseline": root / "evaluation_results" / "baseline"}
    metrics = {"baseline": write_made_results(folders["baseline"], world, 0.0, model="some/model")}
    for step, quality in ((100, 0.3), (500, 0.8)):
        name = f"checkpoint-{step}"
        folders[name] = root / "evaluation_results" / "made-run" / name
        metrics[name] = write_made_results(folders[name], world, quality, model=f"{RUN}/{name}")
    write_decision(folders["checkpoint-500"], metrics["baseline"], metrics["checkpoint-500"], notes=["look at <this>."])
    return SimpleNamespace(root=root, folders=folders, metrics=metrics)


@pytest.fixture
def copied(made, tmp_path):
    """The same, to be spoilt."""
    shutil.copytree(made.root, tmp_path, dirs_exist_ok=True)
    return SimpleNamespace(
        root=tmp_path, folders={name: tmp_path / path.relative_to(made.root) for name, path in made.folders.items()}
    )


class Page(HTMLParser):
    """What a page says in each section; every tag that is opened must be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words = [], {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "section":
            self.words[dict(attributes)["id"]] = []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.words:
            list(self.words.values())[-1].append(re.sub("[ \n]+", " ", data).strip(" "))

    def said(self, key):
        return " ".join(filter(None, self.words[key]))


def report_on(*folders):
    """The whole report: what it is made from, the page's text, what can be checked of it, and the pictures by name."""
    material = read_material(folders)
    text, plots = make_report(material, datetime(2030, 1, 2, tzinfo=UTC))
    page = Page(text)
    return SimpleNamespace(
        material=material, text=text, page=page, said=page.said, plots={plot.name: plot for plot in plots}
    )


@pytest.fixture(scope="module")
def report(made):
    return report_on(*made.folders.values())


# --- the page and its pictures ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_writes_a_page_that_needs_nothing_else_and_its_pictures(copied):
    folders = [
        copied.folders[name].relative_to(copied.root) for name in ("baseline", "checkpoint-100", "checkpoint-500")
    ]
    result = run(*folders, cwd=copied.root)
    folder = copied.folders["checkpoint-500"]
    assert (result.returncode, result.stderr) == (0, "") and f"Report: {folders[2] / 'report.html'}" in result.stdout
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|url\(|@import|<link", text)
    assert list(Page(text).words) == KEYS and '<html lang="en">' in text
    assert re.findall("<(h[1-6])", text) == ["h1", *["h2"] * len(KEYS)]
    shown = re.findall(r'<img src="data:image/svg\+xml;base64,[^"]+" alt="([^"]{40,})">', text)
    assert len(shown) == text.count("<img") and len(re.findall("<th scope=(col|row)", text)) == text.count("<th ")
    assert text.count("<caption>") == text.count("<table>") - text.count("<summary>and ")
    pictures = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert sorted(pictures) == sorted(f"report-{name}.png" for name in PICTURES)
    assert len(shown) == len(pictures)
    for png in pictures.values():
        width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
        assert png[:8] == b"\x89PNG\r\n\x1a\n" and 850 <= width <= 950 and 200 <= height <= 2400


def test_the_page_says_what_the_files_say(made, report):
    said = report.said
    metrics, before = made.metrics["checkpoint-500"], made.metrics["baseline"]
    improvement = 100 * (1 - metrics["wasserstein_distance"] / before["wasserstein_distance"])
    words = f"GO: the Wasserstein distance is {improvement:.1f}% lower than the baseline’s (95% interval "
    assert words + f"{improvement - 8:.1f}% to {improvement + 7:.1f}%); GO needs at least 5%." in said("decision")
    assert "look at <this>." in said("decision")  # a note, escaped
    for one in made.metrics.values():
        low, high = one["wasserstein_distance_ci95"]
        assert f"{one['wasserstein_distance']:.3f} [{low:.3f},\u00a0{high:.3f}]" in said("distances")
    assert f"as close as {metrics['bounds']['worth_people']:.1f} people" in said("distances")
    assert f"Calibrated, W is {metrics['wasserstein_calibrated']:.3f} (95% interval " in said("distances")
    agreement = metrics["effects"]["sign_agreement_clear"]
    assert f"gets {100 * agreement:.0f}% in the right direction" in said("effects")
    slope = metrics["effects"]["prediction"]["slope"]
    assert f"are the predicted ones times {slope:.2f} (95% interval " in said("effects")
    assert f"{metrics['groups']['gender']['parity_difference']:.3f} [" in said("groups")
    assert "at step 500" in said("training") and "trainer_state.json" in said("training")
    assert "decoding: temperature 0.6" in said("basis") and "about: created 2030-01-02T03:04:05" in said("basis")


def test_results_of_nothing_but_metrics(tmp_path):
    report = report_on(bare_results(tmp_path)[1])
    assert set(report.plots) == {"distances"}
    for key, reason in (
        ("studies", "no cells.jsonl"),
        ("cells", "records no distributions"),
        ("effects", "no effects.jsonl"),
        ("calibration", "no predictions.jsonl"),
        ("groups", "no groups"),
        ("training", "No log of the training"),
    ):
        assert reason in report.said(key)


@pytest.mark.slow
def test_whatever_results_hold_is_text(copied):
    """Results that somebody sent: names that are HTML, formulas, half a character; values that are no numbers."""
    folder = copied.folders["checkpoint-500"]
    evil = "<script>alert(1)</script>'\"=cmd\ud800"
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["about"] |= {"model": evil, "versions": {evil: evil}, "settings": [evil]}
    metrics["groups"] = {evil: {"groups": [{"group": evil, "accuracy": 0.5, "rows": evil}, 7], "parity_difference": []}}
    metrics |= {"intervals": {evil: evil}, "effects": {"correlation": evil, "clear_pairs": None}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for name in ("cells.jsonl", "predictions.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("st001", json.dumps(evil[:-1])[1:-1]))
    report = report_on(folder)
    assert "<script" not in report.text and report.text.encode()
    assert "<script>alert(1)</script>'\"=cmd" in report.said("studies") and "=cmd\\ud800" in report.said("basis")


@pytest.mark.slow
def test_a_page_and_its_pictures_replace_only_earlier_ones(made, tmp_path):
    def write(*names):
        return write_report([made.folders[name] for name in names], tmp_path / "new" / "page.html", datetime.now(UTC))

    page, pictures = write("baseline", "checkpoint-500")
    assert {path.name for path in page.parent.iterdir()} == {"page.html", *(path.name for path in pictures)}
    write("baseline")
    assert not page.with_name("page-training.png").exists() and page.with_name("page-cells-best.png").exists()
    for name in ("page.html", "page-cells-best.png"):
        own = page.with_name(name)
        own.write_bytes(b"somebody's own")
        with pytest.raises(SocratesError, match=rf"{name}: scripts/report\.py did not write this file"):
            write("baseline")
        assert own.read_bytes() == b"somebody's own"
        own.unlink()
    page.with_name("page-training.png").mkdir()
    with pytest.raises(SocratesError, match=r"page-training\.png: cannot read: Is a directory"):
        write("baseline")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("predictions.jsonl", {"predicted_distribution": {"2": 1.5}}, r'line 3: .*\n.*"predicted_distribution.2"'),
        ("predictions.jsonl", {"predicted_distribution": {"x": 1.0}}, r'line 3: .*\n.*"predicted_distribution.x"'),
        ("effects.jsonl", {"human_effect_standardized": None}, r'line 3: .*\n.*"human_effect_standardized"'),
        ("cells.jsonl", {"human_answers": {"1": -1}}, r'line 3: .*\n.*"human_answers.1"'),
        ("cells.jsonl", {"study_id": 7}, r'line 3: "study_id"'),
        ("metrics.json", {"groups": [1]}, r'metrics.json: .*\n.*"groups"'),
        ("decision.json", {"decision": "PERHAPS"}, r'decision.json: .*\n.*"decision": must be one of GO, NO-GO'),
    ],
)
def test_what_is_bad_is_named_with_file_line_and_key(copied, file, changes, message):
    path = copied.folders["checkpoint-500"] / file
    if path.suffix == ".json":
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    else:
        lines = path.read_text().splitlines()
        lines[2] = json.dumps({**json.loads(lines[2]), **changes})
        path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SocratesError, match=message):
        report_on(copied.folders["checkpoint-500"])


def test_wrong_arguments(made, tmp_path):
    assert run("nowhere", cwd=made.root).returncode == 2
    baseline = made.folders["baseline"]
    for folders, page, message in (
        ([tmp_path / "nowhere"], None, "nowhere: no such results folder"),
        ([baseline, baseline], None, "is named twice"),
        ([baseline], tmp_path / "page.pdf", r"must end in \.html"),
    ):
        with pytest.raises(SocratesError, match=message):
            write_report(folders, page, datetime.now(UTC))


# --- which results ---------------------------------------------------------------------------------------------


def test_the_page_is_about_the_last_compared_with_the_first(made, tmp_path):
    shutil.copytree(made.folders["checkpoint-500"], tmp_path / "other" / "checkpoint-500")
    folders = [made.folders["baseline"], made.folders["checkpoint-500"], tmp_path / "other/checkpoint-500"]
    material = read_material(folders)
    assert [one.label for one in material.all] == ["baseline", "made-run/checkpoint-500", "other/checkpoint-500"]
    assert [one.folder for one in material.main] == [folders[0], folders[2]]
    assert read_material(folders[:1]).baseline is None


@pytest.mark.slow
def test_results_of_other_rows_are_not_drawn_together(copied):
    folder = copied.folders["baseline"]
    content = json.loads((folder / "metrics.json").read_text())
    content["comparability"]["rows_sha256"] = "0" * 64
    (folder / "metrics.json").write_text(json.dumps(content))
    report = report_on(folder, copied.folders["checkpoint-500"])
    assert comparability_differences(report.material.baseline, report.material.subject) == ["rows_sha256"]
    assert "must not be compared: they differ in rows_sha256" in report.said("decision")
    assert "not in the picture: baseline" in report.said("distances") and "baseline" not in report.said("studies")
    alt = report.plots["distances"].alt
    assert "checkpoint-500" in alt and "baseline" not in alt


# --- the parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said", "not_said"),
    [
        ({}, "GO: the Wasserstein distance is 20.0% lower", "straddles"),
        ({"improvement_ci95": [3.0, 31.0]}, "straddles the threshold of 5%", "no interval"),
        ({"improvement_ci95": None}, "no interval", "straddles"),
        ({"decision": "NO-GO", "require_significant": True}, "GO needs at least 5% over the whole interval", "✅"),
        (
            {"decision": "NO-GO", "improvement_percent": -7.2, "improvement_printed": "-7.2%"}
            | {"improvement_ci95": [-9, -5]},
            "NO-GO: the Wasserstein distance is 7.2% higher than the baseline’s (95% interval 5.0% to 9.0%)",
            "lower than",
        ),
        ({"checkpoint_distance": 0.15}, "of other numbers: a W of 0.15 for the checkpoint", "20.0%"),
        ({"baseline_distance": 0.3}, "of other numbers: a W of 0.3 for the baseline", "20.0%"),
    ],
)
def test_the_decision_in_words(tmp_path, changes, said, not_said):
    baseline, checkpoint = bare_results(tmp_path)
    distances = ({"wasserstein_distance": distance} for distance in (0.2, 0.16))
    write_decision(checkpoint, *distances, **changes)
    report = report_on(baseline, checkpoint)
    text = report.said("decision")
    assert said in text and not_said not in text
    assert ("decision" in report.plots) == ("20.0%" in text or "7.2%" in text)


def bare_results(folder, **metrics):
    """Folders of a baseline and a checkpoint with nothing but metrics, and few of these."""
    for name, distance in (("baseline", 0.2), ("checkpoint-500", 0.16)):
        content = few_metrics(distance)
        for section, values in metrics.items() if name != "baseline" else ():
            content[section] = {**content.get(section, {}), **values} if isinstance(values, dict) else values
        (folder / name).mkdir(parents=True)
        (folder / name / "metrics.json").write_text(json.dumps(content))
    return folder / "baseline", folder / "checkpoint-500"


def test_what_the_numbers_warn_of_and_rest_on(tmp_path):
    limits = {"wasserstein_distance_ci95": [0.1, 0.2]}
    coverage = {"rows": 200, "human_answers": 1000, "studies_scored": 9}
    warned = {"bounds": {"uniform_guess": 0.159}, "seen": {"rows": 1200, "of": 5000}}
    some = report_on(*bare_results(tmp_path, coverage=coverage, **limits, **warned)).said
    assert "no better than a uniform guess" in some("decision") and "trained on 1,200 of the rows" in some("decision")
    assert "No decision about these results is recorded" in some("decision")
    assert "asked about 200 of 1,000 answers. W is an estimate of what asking about all" in some("basis")
    coverage = {"rows": 9, "human_answers": 9, "studies_scored": 1}
    one = report_on(*bare_results(tmp_path / "one", coverage=coverage, **limits)).said("basis")
    assert "--max-examples" not in one and "over other studies" not in one and "nothing of other studies" in one


def test_studies_average_to_the_metric(made, report):
    studies = compare_studies(report.material.subject, report.material.baseline)
    for role, side in (("baseline", "before"), ("checkpoint-500", "W")):
        assert studies[side].mean() == pytest.approx(made.metrics[role]["wasserstein_distance"])
    assert studies["best"].mean() == pytest.approx(made.metrics["checkpoint-500"]["bounds"]["empirical_best"])
    assert studies["change"].is_monotonic_increasing


def test_cells_are_chosen_by_distance_from_several_studies():
    def cells(studies, distances, people=50):
        table = pd.DataFrame({"study_id": studies, "wasserstein_distance": distances, "n_human": people})
        answers = [{1.0: 1.0}] * len(table)
        return table.assign(human_answers=answers, predicted_answers=answers, predicted_distribution=None)

    many = cells([f"s{i // 2 % 4}" for i in range(40)], [i / 100 for i in range(40)])
    many = pd.concat([many, cells(["small"] * 2, [0.0, 0.99], people=3)], ignore_index=True)
    found = {kind: one["wasserstein_distance"].tolist() for kind, one in cells_to_show(many).items()}
    assert found == {"best": [0.0, 0.02, 0.04], "typical": [0.2, 0.19, 0.22], "worst": [0.39, 0.37, 0.35]}
    assert cells_to_show(pd.DataFrame()) == {} and list(cells_to_show(many[:1])) == ["typical"]


@pytest.mark.parametrize(
    ("human", "predicted", "edges", "shares"),
    [
        ({1: 3, 3: 1}, {1: 0.5, 2: 0.25, 9: 0.25}, [0.5, 1.5, 2.5, 3.5], ([0.75, 0, 0.25], [0.5, 0.25, 0.25])),
        ({0: 1, 100: 3}, {9: 1, 10: 1}, np.arange(-0.5, 110, 10), ([0.25, *[0] * 9, 0.75], [0.5, 0.5, *[0] * 9])),
        ({0: 1, 2000: 1}, {-1e97: 1}, np.arange(-0.5, 2200, 200), ([0.5, *[0] * 9, 0.5], [1, *[0] * 10])),
        ({22: 1, 47: 1}, {30: 1}, np.arange(19.5, 50, 5), ([0.5, 0, 0, 0, 0, 0.5], [0, 0, 1, 0, 0, 0])),
    ],
)
def test_distributions_in_equal_classes(human, predicted, edges, shares):
    found = make_bars(human, predicted, (min(human), max(human)))
    for values, expected in zip(found, (edges, *shares), strict=True):
        assert np.allclose(values, expected)


def test_calibration_against_counting_one_by_one(tmp_path):
    rng = np.random.default_rng(5)
    bins, missed, lines = [[] for _ in range(10)], 0, []
    for i in range(400):
        probabilities = rng.dirichlet([0.4] * 4).round(6)
        distribution = {str(k + 1): float(p) for k, p in enumerate(probabilities) if p > 0.02 or k == 0}
        line = {"study_id": f"s{i % 7}", "response": int(rng.integers(1, 5)), "predicted_distribution": distribution}
        if i % 50 == 0:
            line["predicted_distribution"] = None
        else:
            for answer, p in distribution.items():
                bins[min(int(p * 10), 9)] += [(p, str(line["response"]) == answer)] if p > 0 else []
            missed += not distribution.get(str(line["response"]))
        lines.append(json.dumps(line) + "\n")
    (tmp_path / "predictions.jsonl").write_text("".join(lines))
    found = read_calibration(tmp_path / "predictions.jsonl")
    assert (found.rows, found.rows_without, found.missed) == (392, 8, missed)
    assert found.bins["answers"].tolist() == [len(members) for members in bins]
    means = np.array([np.mean(members, axis=0) for members in bins])
    assert np.allclose(found.bins[["probability", "frequency"]], means)
    assert found.bins.eval("low <= frequency <= high").all()
    weights = [sum(p for p, _ in members) for members in bins]
    assert found.error == pytest.approx(np.average(np.abs(means[:, 1] - means[:, 0]), weights=weights))


def test_the_log_is_that_of_the_newest_checkpoint(report, tmp_path):
    source, logged = find_log(report.material.subject)
    assert source.parent.name == "checkpoint-500" and logged["loss"].dropna().index.tolist() == list(range(10, 501, 10))
    assert logged["eval_loss"].dropna().index.tolist() == [100, 200, 300, 400, 500]
    lines = [{"step": 10, "loss": 1.0}, {"step": 10, "eval_loss": 2.0}, {"step": "x"}, 7, {"step": 11, "loss": np.inf}]
    for step, history in ((9, []), (10, lines)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    _, found = find_log(Results(tmp_path, "", {"about": {"model": str(tmp_path / "checkpoint-9")}}))
    assert [dict(found[name].dropna()) for name in found] == [{10: 1.0}, {10: 2.0}]


def test_numbers_as_they_are_written():
    assert str(Value(0.18451, (0.1, 0.25))) == "0.185 [0.100,\u00a00.250]" and str(Value(None)) == "–"
    assert [fixed(-0.0001), fixed(-0.04, 1), fixed(-0.06, 1), fixed(float("nan"))] == ["0.000", "0.0", "-0.1", "–"]
    assert Value(0.5, (0.25, 0.75)).times(100).in_words(0, "%") == "50% (95% interval 25% to 75%)"
