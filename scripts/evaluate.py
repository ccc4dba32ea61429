#!/usr/bin/env python3
r"""Evaluate a model, or a checkpoint's adapter on its base model, against human answers.

  python scripts/evaluate.py \
      --model models/socrates-qwen-full-dataset/checkpoint-500 \
      --test-data data/socsci210_full/val.jsonl \
      --output evaluation_results/checkpoint-500 \
      --max-examples 5000

Several files are evaluated together. Decide on val.jsonl alone: --unseen is for one final figure beside the paper's.
How the model is asked (prompt, decoding, seed) comes from --config, else from the config that the checkpoint records,
else from the defaults. Writes metrics.json, predictions.jsonl and cells.jsonl into the output folder. Broken off, by
whatever, the same command goes on where it was.
Exit status: 0 done, 2 cannot.
"""

import _bootstrap  # noqa: F401

import argparse
from pathlib import Path

from socrates.errors import SocratesError, make_parser, run_entry_point

KEY_METRICS = ("wasserstein_distance", "wasserstein_drawn", "mae", "rmse", "correlation", "accuracy", "valid_mass")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--model", metavar="NAME|DIR", help="hub name, model folder or checkpoint folder (default: the config's)")
    data = parser.add_mutually_exclusive_group().add_argument
    data("--test-data", metavar="FILE", type=Path, nargs="+", help="JSONL with human answers (default: the config's)")
    data("--unseen", action="store_true", help="val.jsonl and test.jsonl of the config's data set: the final figure")
    add("--output", metavar="DIR", type=Path, required=True, help="the results folder")
    add("--max-examples", metavar="N", type=int, help="rows at most, some of each of many cells; 0: all (the config's)")
    add("--config", metavar="FILE", help="run config: model, data, prompt, decoding, seed")
    add("--base-model", metavar="NAME|DIR", help="an adapter's base model, instead of the one that it names")
    add("--processes", metavar="N", type=int, help="that run the model (default: one a GPU; without a GPU one)")
    add("--overwrite", action="store_true", help="ask again where the results folder holds results already")
    add("--allow-seen", action="store_true", help="evaluate a checkpoint also on rows that it may have been trained on")
    add("--compare-with", metavar="FILE", help="a baseline's metrics.json: refuse early what cannot be compared")
    add("--label", default="", metavar="WORD", help='what the headings call it: "baseline", "checkpoint"')
    return parser.parse_args()


def main() -> int:
    """Parse, evaluate, print the key metrics."""
    arguments = parse_arguments()
    from socrates.config import load_config
    from socrates.evaluation.evaluate import evaluate, recorded_config
    from socrates.evaluation.results import read_metrics
    from socrates.inference.run import InferenceRequest, settings_of

    config = load_config(arguments.config) if arguments.config else recorded_config(arguments.model or "")
    settings = settings_of(config)
    if arguments.max_examples is not None:
        if arguments.max_examples < 0:
            raise SocratesError(f"--max-examples: must be 0 or more, not {arguments.max_examples}")
        sizes = settings.evaluation.model_copy(update={"max_examples": arguments.max_examples or None})
        settings = settings.model_copy(update={"evaluation": sizes})
    if arguments.processes is not None and arguments.processes < 1:
        raise SocratesError(f"--processes: must be 1 or more, not {arguments.processes}")
    model = arguments.model or (config.model_name if config else None)
    data_files = arguments.test_data
    if arguments.unseen and not config:
        raise SocratesError("--unseen needs a --config, or a checkpoint that records one: they name the data set")
    if config and not data_files:
        unseen = [Path(config.dataset_path) / name for name in ("val.jsonl", "test.jsonl")]
        data_files = unseen if arguments.unseen else [config.evaluation_file]
    if model is None or data_files is None:
        raise SocratesError("name --model and --test-data, or a --config that does")
    baseline = read_metrics(Path(arguments.compare_with), "baseline metrics") if arguments.compare_with else None
    about = (baseline or {}).get("about")
    # Not what the checkpoint records of itself: where that comes from, its adapter's config does.
    known = (
        config.model_name if arguments.config else None,
        about.get("base_model") if isinstance(about, dict) else None,
    )

    print(f"Model: {model}")
    print(f"Validation data: {', '.join(map(str, data_files))}", flush=True)
    request = InferenceRequest(
        model,
        arguments.output,
        settings,
        base_model=arguments.base_model,
        known_bases=known,
        revision=config.model_revision if config and names_base_of(model, config) else None,
        processes=arguments.processes,
        overwrite=arguments.overwrite,
    )
    metrics = evaluate(request, data_files, baseline=baseline, allow_seen=arguments.allow_seen)
    print_summary(metrics, arguments.label, arguments.output)
    return 0


def names_base_of(model: str, config) -> bool:
    """Whether the config's revision is the model's own, or that of the base model of a local adapter."""
    from socrates.model.adapter import ADAPTER_CONFIG

    return model == config.model_name or (Path(model) / ADAPTER_CONFIG).is_file()


def print_summary(metrics: dict, label: str, output: Path) -> None:
    """The guide's closing lines, and a warning where the numbers rest on little."""
    from socrates.console import coverage_notes, people_worth, with_interval, worse_than_uniform
    from socrates.evaluation.gate import LITTLE_MASS

    print(f"{label.capitalize()} Evaluation Complete".strip())
    print(f"Key {label} metrics:".replace("  ", " "))
    for name in KEY_METRICS:
        print(f'  "{name}": {with_interval(metrics[name], metrics[f"{name}_ci95"])}')
    bounds, nominal = metrics["bounds"], metrics["nominal"]
    if metrics["wasserstein_distance"] is not None:
        print(
            f"On these cells a uniform guess scores {bounds['uniform_guess']:.4f}, 5 people resampled "
            f"{bounds['people_5']:.4f}, everyone resampled {bounds['empirical_best']:.4f}; "
            f"the model is {people_worth(bounds['worth_people'])}"
        )
    if nominal:
        print(
            f'  "total_variation" of {nominal["cells"]} nominal cells, which are in no number above: '
            f"{with_interval(nominal['total_variation'], nominal['total_variation_ci95'])}; a uniform guess "
            f"{nominal['uniform_guess']:.4f}, everyone resampled {nominal['empirical_best']:.4f}"
        )
    if metrics["scope"]:
        print(f"These numbers are {metrics['scope']}: they say nothing of other questions or studies")
    if useless := worse_than_uniform(metrics):
        print(f"Note: {useless}")
    coverage, about = metrics["coverage"], metrics["about"]
    scored = [coverage[f"{what}_scored"] for what in ("rows", "cells", "studies")]
    print("Scored {} answers in {} cells of {} studies".format(*scored))
    print(f"Asked {coverage['rows']} rows in {about['seconds']:.0f} s")
    if about["drawn_rows"]:
        print(f"{about['drawn_rows']} rows state no usable list of valid answers: answered by sampling, not exactly")
    if about["undecoded_rows"]:
        print(
            f"{about['undecoded_rows']} rows: decoding leaves no valid answer; taken from the undecoded probabilities"
        )
    if too_long := about.get("too_long_rows"):
        print(f"{too_long} rows are longer than the model can read, and were left out")
    if unanswered := coverage["rows"] - coverage["rows_predicted"]:
        print(f"{unanswered} rows got no valid answer")
    for note in coverage_notes(coverage):
        print(f"Note: {note}")
    if metrics["valid_mass"] is not None and metrics["valid_mass"] < LITTLE_MASS:
        print(
            f"Note: the model puts only {metrics['valid_mass']:.0%} of its probability on valid answers; "
            "the distances are of that part"
        )
    if metrics["seen"] and metrics["seen"]["rows"]:
        print(
            f"Note: the model may have been trained on {metrics['seen']['rows']} of these rows (--allow-seen): "
            "the distances tell what it remembers"
        )
    print(f"Results: {output}/metrics.json", flush=True)


if __name__ == "__main__":
    run_entry_point(main)
