#!/usr/bin/env python3
"""Prepare the published answers for training and evaluation: train.jsonl, val.jsonl, test.jsonl, metadata.json.

  python scripts/prepare_data.py --output data/socsci210_full
  python scripts/prepare_data.py --output data/small --source FOLDER --sample 20000
  python scripts/prepare_data.py --output data/mine --source rows.jsonl --split own --by person
  python scripts/prepare_data.py --output data/socsci210_full --tokenize --config config_full_dataset.json

Published lists (metadata/*_mapping.json beside the data) say which rows are for training and which for evaluation. Some
of the evaluation studies become the validation split. The written files are checked: nothing leaks between them.
With --split own no list is needed: --judge-share of the rows, chosen by --seed, become val and test. --by says what is
never in two parts: a study, a condition of a study, a question of a study, or a person. For one small study only by
person is possible; every question is then in all parts, so that results are of this study only (docs/splits.md).
With --tokenize, what the config's training reads is made too (tokenized-…/ beside train.jsonl), so that no rented GPU
waits for it; where the set is there already, or with --check, only that is left to do.
Interrupted, by whatever, it leaves no half of a set: run the same command again.
Exit status: 0 done, 2 cannot, 130 interrupted.
"""

import _bootstrap  # noqa: F401

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from socrates.errors import SocratesError, make_parser, run_entry_point

if TYPE_CHECKING:
    from socrates.config import RunConfig


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--output", metavar="DIR", type=Path, required=True, help="folder of the prepared set")
    add(
        "--source",
        metavar="NAME|DIR|FILE",
        default="socratesft/SocSci210",
        help="hub name, folder of parquet or JSONL files, or one such file (socratesft/SocSci210)",
    )
    add(
        "--columns",
        metavar="FILE",
        type=Path,
        help="columns.json of a --source file of another layout (convert_data.py)",
    )
    add("--revision", metavar="REV", help="commit, tag or branch of the hub's repository (the newest)")
    splits = ("study", "condition", "task", "own")
    add("--split", choices=splits, default="study", help="whose published lists (study), or own: chosen by the seed")
    add("--by", choices=("study", "condition", "question", "person"), help="with own: what is never in two parts")
    add("--judge-share", metavar="F", type=float, help="with own: of all rows, for val and test together (0.2)")
    add("--val-share", metavar="F", type=float, default=0.5, help="of the evaluation rows, for val.jsonl (0.5)")
    add(
        "--sample",
        metavar="N",
        type=int,
        help="about N rows only, in whole cells (study, condition, question) or people",
    )
    add(
        "--seed", metavar="S", type=int, default=0, help="of which studies validate, of an own split, of the sample (0)"
    )
    add("--max-bad-rows", metavar="N", type=int, default=0, help="leave so many bad rows out and go on (0)")
    add("--overwrite", action="store_true", help="replace another prepared set there; takes the newest commit")
    add("--check", action="store_true", help="prepare nothing; prove that nothing leaks in the set in --output")
    add("--tokenize", action="store_true", help="then turn train.jsonl into tokens, as training would (needs --config)")
    add("--config", metavar="FILE", help="run config whose model, prompt and length limit --tokenize takes")
    return parser.parse_args()


def main() -> int:
    """Parse, prepare, say what was written."""
    arguments = parse_arguments()
    config = tokenizing_config(arguments.tokenize, arguments.config, arguments.output)
    if arguments.check:
        from socrates.data.prepare.leaks import check_prepared

        print_summary(check_prepared(arguments.output))
        print(f"Checked: {arguments.output}", flush=True)
    else:
        from socrates.data.dataset import read_metadata
        from socrates.data.prepare.prepare import PrepareSettings, prepare

        settings = PrepareSettings(
            arguments.split,
            arguments.val_share,
            arguments.seed,
            arguments.sample,
            "task" if arguments.by == "question" else arguments.by,
            arguments.judge_share,
        )
        metadata = prepare(
            arguments.output,
            settings,
            source=arguments.source,
            revision=arguments.revision,
            columns=arguments.columns,
            max_bad_rows=arguments.max_bad_rows,
            overwrite=arguments.overwrite,
        )
        if metadata is None:
            print(f"{arguments.output}: holds exactly this set already; nothing to do")
            metadata = read_metadata(arguments.output)
        print_summary(metadata)
        print(f"Prepared: {arguments.output}", flush=True)
    if config is not None:
        from socrates.data.tokenize import tokenize_for
        from socrates.data.tokenized import read_info

        folder = tokenize_for(config)
        print_tokenized(folder, read_info(folder))
    return 0


def tokenizing_config(tokenize: bool, path: str | None, output: Path) -> "RunConfig | None":
    """The config that --tokenize works with, checked before anything else happens; None without --tokenize."""
    if tokenize != (path is not None):
        raise SocratesError("--tokenize and --config go together: --tokenize --config FILE")
    if not tokenize:
        return None
    from socrates.config import load_config
    from socrates.model.hub import find_model

    config = load_config(path)
    if Path(config.dataset_path).resolve() != output.resolve():
        raise SocratesError(
            f"{path}: its dataset_path is {config.dataset_path}, not {output}: its training would read other rows; "
            "change one of the two"
        )
    find_model(config.model_name, config.model_revision, weights=False)  # some MB, before hours of work need them
    return config


def print_summary(metadata: dict) -> None:
    """What each part holds, what was left out (a check does not tell), and what was proved."""
    for part, rows in metadata["rows"].items():
        studies, cells = metadata["counts"]["studies"][part], metadata["counts"]["cells"][part]
        print(f"  {part}.jsonl: {rows:,} rows, {studies} {'study' if studies == 1 else 'studies'}, {cells:,} cells")
    for reason, found in metadata.get("left_out", {}).items():
        names = list(found["where"])
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        print(f"  left out: {found['rows']:,} rows, {reason}: {shown}")
    if bad := metadata.get("bad_rows", {}).get("rows"):
        print(f"  left out: {bad:,} bad rows; the first are named in metadata.json")
    unit = metadata["no_leak"]["unit"]
    by_person = unit.startswith("participant")
    prompts = "; the same questions and prompts may be" if by_person else ", and no prompt of val or test is in train"
    print(f"No {unit} is in two parts{prompts}")


def print_tokenized(folder: Path, info: dict) -> None:
    """What training will read."""
    print(
        f"Tokenized: {folder}: {info['rows']:,} rows, {info['tokens']:,} tokens, {info['shortened']:,} rows shortened, "
        f"{info['dropped']:,} dropped"
        + (f", {missing:,} of missing answers left out" if (missing := info["missing_answers"]) else ""),
        flush=True,
    )


if __name__ == "__main__":
    run_entry_point(main)
