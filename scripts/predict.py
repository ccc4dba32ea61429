#!/usr/bin/env python3
r"""Predict how people would answer in an experiment that you describe, and what differs between its conditions.

  python scripts/predict.py --model models/socrates-qwen-full-dataset/checkpoint-500 \
      examples/bus_line.json --output predictions/bus_line \
      --results evaluation_results/socrates-qwen-full-dataset/checkpoint-500

EXPERIMENT.json says what people of each condition read, what they are asked on which scale, and who they are: shares or
counts of demographic fields, or a list of personas. examples/README.md shows how to write one. The output folder
gets predict.html (a page that needs nothing else), its pictures, and tables: distributions.csv, means.csv,
differences.csv, predictions.csv. It predicts and asks nobody: it is no substitute for asking people.

The model is asked as it was evaluated: prompt and decoding are those that the checkpoint records. Where --results tell,
its own probabilities are taken at the temperature that fits people, and differences come with what to expect of people.
With --humans, the answers of a small pilot, predictions make its estimates more precise, and stay right where the model
is wrong (pilot.csv); --plan width=0.2 says how many people an interval of that width takes (people_needed.csv).
--compare shows predictions of the same experiment by other models beside this one.
Broken off, by whatever, the same command goes on where it was; done, it makes tables and page again from the answers in
the folder.
Exit status: 0 done, 2 cannot.
"""

import _bootstrap  # noqa: F401

from pathlib import Path

from socrates.errors import EXIT_DONE, SocratesError, make_parser, run_entry_point


def main() -> int:
    """Parse, predict, write, print the means."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("experiment_file", metavar="EXPERIMENT.json", type=Path, help="conditions, questions and population")
    add("--model", metavar="NAME|DIR", required=True, help="checkpoint folder, model folder or hub name")
    add("--output", metavar="DIR", type=Path, required=True, help="the folder of tables, pictures and page")
    add("--results", metavar="DIR", type=Path, help="results of evaluating this model: how far to believe it")
    add("--humans", metavar="FILE", type=Path, help="answers of a pilot of this experiment, a table")
    add("--plan", metavar="width=W", help="how many people a 95%% interval of this full width takes")
    add(
        "--compare",
        dest="compared",
        metavar="DIR",
        type=Path,
        nargs="+",
        default=[],
        help="predictions by other models",
    )
    add("--people", metavar="N", type=int, help="how many are asked (default: the experiment's number)")
    add("--seed", metavar="N", type=int, default=42, help="of personas, sampled answers and intervals (default: 42)")
    add("--undecoded", action="store_true", help="the model's own probabilities as they are, not calibrated either")
    add("--uncalibrated", action="store_true", help="decoded as evaluated, whatever temperature fits people")
    add("--base-model", metavar="NAME|DIR", help="an adapter's base model, instead of the one that it names")
    add("--processes", metavar="N", type=int, help="that run the model (default: one a GPU; without a GPU one)")
    add("--overwrite", action="store_true", help="ask again, and replace the prediction in the folder then")
    arguments = parser.parse_args()
    for name, least, most in (("people", 1, 100_000), ("processes", 1, 1024), ("seed", 0, 2**32 - 1)):
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            raise SocratesError(f"--{name}: must be from {least} to {most}, not {value}")

    from socrates.predict.pilot import parse_plan
    from socrates.predict.predict import predict
    from socrates.predict.tables import write_prediction

    given = vars(arguments)
    try:
        width = None if (plan := given.pop("plan")) is None else parse_plan(plan)
    except ValueError as error:
        raise SocratesError(f"--plan: {error}") from error
    prediction = predict(**given, width=width)
    pictures = write_prediction(arguments.output, prediction)
    print_summary(prediction)
    print(f"Page: {arguments.output / 'predict.html'}, with {len(pictures)} pictures, and the tables beside it")
    return EXIT_DONE


def print_summary(prediction) -> None:
    """The means, or shares, of each condition, with their intervals; and what makes them doubtful."""
    from socrates.evaluation.gate import LITTLE_MASS

    width = max(map(len, prediction.plan.experiment.conditions)) + 2
    for one in prediction.questions:
        what, numbers = one.headline
        print(f"{one.name} ({what}):")
        for name, number in zip(one.conditions, numbers, strict=True):
            limits = "" if number.limits is None else "  [{:.3f}, {:.3f}]".format(*number.limits)
            print(f"  {name:<{width}}{number.value:.3f}{limits}")
        if one.least_mass < LITTLE_MASS:
            print(f"  Note: only {one.least_mass:.0%} of its probability is on valid answers; this is that part")
    print(prediction.calibrated)
    print("Predicted, not asked; the intervals hold which personas were made, not the model's error")
    if "estimate" in prediction.pilot:
        gain = (prediction.pilot["effective_people"] / prediction.pilot["people"]).median()
        print(
            f"Together with the pilot: pilot.csv; half of its estimates are worth {gain:.2f} times its people, or more"
        )
    if any(one.expected for one in prediction.questions):
        print("To expect of people, as if everybody were asked, with 90% intervals: differences.csv and the page")


if __name__ == "__main__":
    run_entry_point(main)
