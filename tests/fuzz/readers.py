"""The readers of files and answers that others may have made, each as a caller uses it: good files, and a program."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any, NamedTuple

from machines import TEST, Machine
from made_answers import make_sample_data
from made_results import few_metrics, make_world, write_made_results
from processes import ROOT
from tiny import save_model, survey_model, with_adapter

from socrates.config import load_config
from socrates.files import finite, no_constant, unique_keys, whole_number
from socrates.machine import status as machine_status
from socrates.machine.run_state import read_machine_env
from socrates.model.hub import locate_model
from socrates.model.load import load_model
from socrates.predict.experiment import read_experiment
from socrates.predict.prompts import plan_prompts
from socrates.rehearsal.rehearsal import rehearsal_config
from socrates.remote import verify
from socrates.remote.listing import list_folders, list_trainings
from socrates.remote.status import find_status, screen

OUT = "out"  # what a program writes; removed before each input
_RESULTS = ("baseline.json", "checkpoint.json", "both.json")


class Reader(NamedTuple):
    """A program, the files that are mutated, one at a time, and whether a status is a false answer to a content."""

    program: Callable[[], int | None]
    files: tuple[str, ...]
    is_false: Callable[[int, bytes], bool] = lambda status, content: False


def script(name: str, *words: str) -> Callable[[], int | None]:
    """A script with these arguments."""
    main = import_module(f"scripts.{name}").main

    def program() -> int | None:
        sys.argv = [f"{name}.py", *words]
        return main()

    return program


def make_readers(folder: Path) -> dict[str, Reader]:
    """All of them; the files of each are in a folder of its name, in which it runs."""
    sys.path.insert(0, str(ROOT / "scripts"))
    for path, distance in zip((*_RESULTS, "good.json"), (0.3, 0.2, 0.3, 0.3), strict=True):
        _write(folder / "metrics" / path, json.dumps(few_metrics(distance) | {"about": {"base_model": "base"}}))
    for name, quality in (("baseline", 0.2), ("checkpoint", 0.6)):
        write_made_results(folder / "cells" / name, make_world(2, 2), quality, model=name)
    make_sample_data(folder / "rows", people=3, train_studies=2, val_studies=1)
    predictions = (folder / "cells" / "baseline" / "predictions.jsonl").read_text()
    first = json.loads(predictions.splitlines()[0])
    own = (
        {**first, "nominal": True, "weight": 2.5, "missing": [9]},
        {**first, "response": None, "counts": {"1": 3, "2": 4}},
    )
    _write(folder / "predictions" / "answers.jsonl", predictions + "".join(json.dumps(line) + "\n" for line in own))
    row = json.loads((folder / "rows" / "val.jsonl").read_text().splitlines()[0])
    own = (
        {**row, "scale": "0 to 9 by 0.5", "weight": 2, "missing": [9]},
        {**row, "response": None, "shares": {"1": 1}, "n": 9},
    )
    with (folder / "rows" / "val.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in own)
    model, tokenizer = survey_model()
    save_model(model, tokenizer, folder / "adapter" / "base")
    save_model(model, tokenizer, folder / "chat" / "model")
    shutil.copy(folder / "rows" / "val.jsonl", folder / "chat")
    config = rehearsal_config("model", ".", steps=1, save_steps=1) | {"prompt": {"system_message": "Be kind."}}
    _write(folder / "chat" / "config.json", json.dumps(config))
    model.name_or_path = "base"
    save_model(with_adapter(model), tokenizer, folder / "adapter" / "adapter")
    machine = _make_machine(folder / "report")
    (folder / "machine").symlink_to(machine.there)
    checkpoint = shutil.copytree(machine.there / "models" / TEST, folder / "manifest") / "checkpoint-50"
    with contextlib.chdir(machine.there):
        report = json.dumps(asdict(machine_status.machine_report(TEST, "training_test.log")))
    _write(folder / "report" / "answer.json", report)
    listed = [f"./{TEST}/checkpoint-10", f"./{TEST}/checkpoint-20", f"{'a' * 64}  ./{TEST}/checkpoint-10/manifest.json"]
    _write(folder / "listing" / "answer", "\0".join(["hello\nsocrates-begin", *listed, "socrates-end", ""]))
    shutil.copytree(folder / "rows", folder / "prepare")
    shutil.copytree(ROOT / "examples", folder / "experiment")
    of_run = (".progress.json", "training_log.jsonl", "checkpoint-50/trainer_state.json")
    records = (".run/state.json", "training_test.log", "machine.env", *(f"models/{TEST}/{name}" for name in of_run))
    prepare = script("prepare_data", "--source", "train.jsonl", "--output", OUT, "--max-bad-rows", "3")
    tokens = script("inspect_data", "val.jsonl", "--config", "config.json")
    gate = script("gate", "baseline/metrics.json", "checkpoint/metrics.json")
    return {
        "metrics": Reader(_gate, _RESULTS, lambda status, content: status != 2 and _is_invalid(content)),
        "cells": Reader(gate, ("baseline/cells.jsonl", "checkpoint/cells.jsonl")),
        "manifest": Reader(
            script("verify_checkpoint", checkpoint.name),
            (f"{checkpoint.name}/manifest.json",),
            lambda status, content: status == 0 and not (_strictly(content) or {}).get("files"),
        ),
        "adapter": Reader(
            lambda: print(load_model(locate_model("adapter")).base_name), ("adapter/adapter_config.json",)
        ),
        "chat": Reader(tokens, ("model/chat_template.jinja", "model/tokenizer_config.json")),
        "report": Reader(_show_report, ("answer.json",)),
        "machine": Reader(_show_machine, records),
        "listing": Reader(_show_listing, ("answer",)),
        "rows": Reader(script("inspect_data", "val.jsonl"), ("val.jsonl",)),
        "prepare": Reader(prepare, ("train.jsonl",)),
        "predictions": Reader(script("score_predictions", "answers.jsonl", "--output", OUT), ("answers.jsonl",)),
        "experiment": Reader(_show_experiments, ("bus_line.json", "library_hours.json", "library_personas.csv")),
    }


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _make_machine(folder: Path) -> Machine:
    """A machine whose infrastructure test has ended, and the laptop's folder, whose checkpoint is here."""
    machine = Machine(folder)
    machine.now = 1.9e9  # inputs depend on the seed alone
    machine.state("complete", begun=1200, run=TEST, pid=1, ended="2030-01-01T00:00:00+00:00", reason=None)
    machine.progress(50, of=50, run=TEST, logged={"gpu": [{"index": 0, "utilization": 90}]})
    losses = [{"step": step, "loss": 2.5 - step / 50} for step in range(10, 51, 10)]
    trainer = json.dumps({"global_step": 50, "max_steps": 50, "log_history": losses}).encode()
    for root in (machine.there, machine.root):
        machine.checkpoint(50, run=TEST, root=root, trainer_state=trainer)
    machine.write("training_test.log", "Training on 9 rows\nerror: CUDA out of memory\n")
    machine.write("machine.env", "# paths\nHF_HOME=/data/hub\nNCCL_DEBUG=INFO\n")
    return machine


def _answering(answer: bytes) -> Any:
    """An instance that gives this answer."""
    done = CompletedProcess([], 0, answer, b"\x1b[31mnoise")
    return SimpleNamespace(id="0", root=Path.cwd(), run=lambda *_, **__: done, failure=lambda done: RuntimeError())


def _gate() -> int | None:
    """On both results; or, where that is mutated, on one and its twin with a smaller distance."""
    content = Path(_RESULTS[2]).read_bytes()
    Path("twin.json").write_bytes(content.replace(b'"wasserstein_distance": 0.', b'"wasserstein_distance": 0.0', 1))
    pair = _RESULTS[:2] if content == Path("good.json").read_bytes() else (_RESULTS[2], "twin.json")
    return script("gate", *pair, "--output", f"{OUT}/decision.json")()


def _show_report() -> None:
    instance, name = _answering(Path("answer.json").read_bytes()), "config_test_run.json"
    print(screen(find_status(instance), 100))
    print(verify.checklist(verify.check_criteria(verify.gather_evidence(instance, name, load_config(name), 2e9))))


def _show_machine() -> None:
    read_machine_env()
    with contextlib.redirect_stdout(StringIO()) as answer:
        machine_status.main(TEST, "training_test.log")
    print(screen(find_status(_answering(answer.getvalue().encode())), 100))


def _show_listing() -> None:
    instance = _answering(Path("answer").read_bytes())
    print(*(f"{found.folder} {found.manifest_sha256}\n" for found in list_folders(instance)[0]))
    list_trainings(instance)


def _show_experiments() -> None:
    for path in (Path("bus_line.json"), Path("library_hours.json")):
        experiment = read_experiment(path)
        plan = plan_prompts(experiment, experiment.population.personas(path.parent, 42))
        print(*experiment.conditions, *experiment.questions, plan.fingerprint, plan.weights.sum())


def _strictly(content: bytes) -> Any:
    """The object of a JSON text; None where it is none, holds a key twice, or a number that JSON has not."""
    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=unique_keys, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_invalid(content: bytes) -> bool:
    """Whether a value that `metrics.json` must hold is none."""
    value = _strictly(content) or {}
    bounds, coverage, compared = (
        found if isinstance(found := value.get(name), dict) else {} for name in ("bounds", "coverage", "comparability")
    )
    numbers = [finite(value.get("wasserstein_distance"), 5e-324, 1), finite(bounds.get("uniform_guess"), 0, 1)]
    numbers += [finite(bounds.get("empirical_best"), 0, 1), whole_number(compared.get("metric_version"), 1)]
    numbers += [whole_number(coverage.get(name), 1) for name in ("rows_scored", "cells_scored")]
    numbers += [whole_number(compared.get("seed"), 0, 10**400)]
    known = ("mae", "rmse", "correlation", "correlation_within_cells", "accuracy", "valid_mass")
    numbers += [0 if name in value and value[name] is None else finite(value.get(name), -1, 1) for name in known]
    names = [compared.get(name) for name in ("data_sha256", "rows_sha256", "prompt_fingerprint")]
    return None in numbers or not all(isinstance(name, str) and name for name in names) or not compared.get("decoding")
