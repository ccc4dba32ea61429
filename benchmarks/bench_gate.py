#!/usr/bin/env python3
r"""How often the gate says GO, by true improvement and number of examples: simulated on the structure of the data.

    venv/bin/python benchmarks/bench_gate.py                                               # a made-up structure
    venv/bin/python benchmarks/bench_gate.py --data train.jsonl val.jsonl --sample-share 0.01

Rows are chosen by `socrates.data.selection`, intervals made by `socrates.evaluation.bootstrap`; the threshold is the
gate's. No model.

Exit status: 0 with the recommended numbers GO comes in under 5% of cases at no true improvement and in over 90% at 10%,
whatever the differences between studies, 1 it does not, 2 cannot.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point

STUDIES, ROWS = 40, 482_642  # of the published unseen studies
IMPROVEMENTS = (0, 2.5, 5, 7.5, 10, 15, 20, 26)
EXAMPLES = (500, 1000, 2500, 5000, 10_000)
PER_CELL = (2, 5, 10, 15, 20, 30, 50, None)
RECOMMENDED = (5000, 20)  # examples, rows of a cell: the config's defaults
# Name, and the standard deviations of the share of the way over studies and over cells: assumed.
DIFFERENCES = (("none", 0.0, 0.0), ("medium", 0.1, 0.2), ("large", 0.2, 0.4))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, simulate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, nargs="+", metavar="FILE", help="real rows, JSONL (default: made up)")
    parser.add_argument("--sample-share", type=float, default=1.0, metavar="S", help="share of each cell in --data")
    parser.add_argument("--studies", type=int, default=STUDIES, metavar="N")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help="people of all cells together")
    parser.add_argument("--simulations", type=int, default=500, metavar="N", help="of each number (default: 500)")
    parser.add_argument("--sets", type=int, default=10, metavar="N", help="sets of studies (default: 10)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the tables there too (Markdown)")
    a = parser.parse_args(argv)
    if not 0 < a.sample_share <= 1:
        raise SocratesError(f"--sample-share: must be above 0 and at most 1, not {a.sample_share}")
    if min(a.studies, a.rows, a.simulations, a.sets) < 1 or a.seed < 0:
        raise SocratesError("--studies, --rows, --simulations and --sets must be at least 1, --seed at least 0")
    started = time.thread_time()
    text, enough = simulate_all(a)
    text += f"\nAll of it took {time.thread_time() - started:.0f} s of one thread.\n"
    print(text, end="")
    if a.output:
        a.output.write_text(text, encoding="utf-8")
    return EXIT_DONE if enough else EXIT_NO


def simulate_all(a: argparse.Namespace) -> tuple[str, bool]:
    """The report, and whether the recommended numbers are enough."""
    import numpy as np
    from gate_models import NARROWER, Differences, Truth, untrained
    from gate_report import Results, is_enough, report
    from gate_simulation import Outcomes, Way, outcomes
    from gate_studies import Study, draw_cells, make_studies, read_studies

    def sets_of(studies: Sequence[Study], narrower: float = NARROWER) -> list[Truth]:
        rng = np.random.default_rng(a.seed)
        drawn = [draw_cells(studies, a.studies, a.rows, rng) for _ in range(a.sets)]
        return [Truth.of(cells, untrained(cells, rng, narrower)) for cells in drawn]

    made_up = make_studies(200, np.random.default_rng(a.seed))
    studies = read_studies(a.data, a.sample_share) if a.data else made_up
    truths = sets_of(studies)
    kinds = [Differences(*values) for values in DIFFERENCES]
    recommended, whole = Way(*RECOMMENDED), Way(RECOMMENDED[0], None)
    ways = [Way(examples, number) for examples in EXAMPLES for number in (RECOMMENDED[1], None)]
    everyone = [Way(examples, RECOMMENDED[1]) for examples in EXAMPLES] + [Way(None, None)]

    def both(truths: Sequence[Truth], way: Way) -> tuple[Outcomes, Outcomes]:
        found = outcomes(truths, [way], kinds[-1:], (0, 10), a.simulations, a.seed + 4)
        none, ten = found.values()
        return none, ten

    results = Results(
        truths=truths,
        kinds=kinds,
        recommended=recommended,
        by_rows=outcomes(
            truths,
            [Way(RECOMMENDED[0], number) for number in PER_CELL],
            kinds,
            (0, 10),
            a.simulations,
            a.seed + 1,
            with_intervals=False,
        ),
        found=outcomes(truths, ways, kinds, IMPROVEMENTS, a.simulations, a.seed + 2),
        others=outcomes(truths, everyone, kinds[1:], IMPROVEMENTS, a.simulations, a.seed + 3, other_studies=True),
        variants={
            "nothing": both(truths, recommended),
            "nothing, but whole cells": both(truths, whole),
            "luck is not shared: each model draws on its own": both(truths, Way(*RECOMMENDED, shared_luck=False)),
            "the untrained model's answers are as wide as the humans'": both(sets_of(studies, 1.0), recommended),
            **({"the structure is made up": both(sets_of(made_up), recommended)} if a.data else {}),
        },
    )
    source = f"{len(studies)} real studies ({', '.join(path.name for path in a.data)})" if a.data else "made-up studies"
    return report(results, source, a.simulations), all(is_enough(results.found, recommended, kind) for kind in kinds)


if __name__ == "__main__":
    sys.exit(run_entry_point(main))
