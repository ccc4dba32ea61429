#!/usr/bin/env python3
r"""Train the adapter: one process of a run that DeepSpeed's launcher starts.

  deepspeed --num_gpus=4 scripts/train_full_dataset.py \
      --config config_full_dataset.json --deepspeed deepspeed_config.json

  python scripts/train_full_dataset.py --config config_full_dataset.json \
      --deepspeed deepspeed_config.json --dry-run

Run again after a crash, the same command goes on from the newest complete checkpoint in the config's output_dir;
on another number of processes (num_processes in the config) too. What it cannot go on with exactly, it says.
SIGTERM, and max_cost_usd before it is passed, end it after a checkpoint; the same command goes on from it.
Exit status: 0 done or stopped after a checkpoint (or, with --dry-run, nothing is wrong), 2 cannot.
"""

import _bootstrap  # noqa: F401

import argparse
import json

from socrates.errors import make_parser, run_entry_point


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="the run config (JSON)")
    parser.add_argument("--deepspeed", required=True, metavar="FILE", help="the DeepSpeed config (JSON)")
    parser.add_argument(
        "--resume-from-checkpoint",
        metavar="auto|DIR",
        help="auto: the newest checkpoint whose manifest verifies; or a checkpoint folder",
    )
    parser.add_argument(
        "--resume-weights-only",
        action="store_true",
        help="where a checkpoint's optimizer state is lost (damaged, or a light download), go on from its weights",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check config, DeepSpeed file and data; needs no GPU, no model, no network",
    )
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # DeepSpeed's launcher passes it
    return parser.parse_args()


def main() -> int:
    """Parse, check, then train or report."""
    arguments = parse_arguments()
    from socrates.config import load_config, load_deepspeed
    from socrates.training.distributed import errors_from_rank_zero, part
    from socrates.training.train import train

    with errors_from_rank_zero():
        config = load_config(arguments.config)
        deepspeed = load_deepspeed(arguments.deepspeed, config)
    if arguments.dry_run:
        return dry_run(config)
    train(config, deepspeed, arguments.resume_from_checkpoint, arguments.resume_weights_only)
    part()
    return 0


def dry_run(config) -> int:
    """Check the data too, and print what the run would be."""
    from socrates.training.train import check_data

    print("Resolved config:", json.dumps(config.to_dict(), indent=2), sep="\n")
    summaries = {path: check_data(path) for path in (config.train_file, config.evaluation_file)}
    for path, summary in summaries.items():
        print(f"{path}: {summary.rows} rows of {summary.studies} studies, sha256 {summary.sha256}")
    steps = config.planned_steps(summaries[config.train_file].rows)
    checkpoints = -(-steps // config.training.save_steps)
    examples = config.training.global_batch_size
    print(f"{steps} steps of {examples} examples, {checkpoints} checkpoints in {config.output_dir}")
    print("Dry run: nothing is wrong with config, DeepSpeed file and data")
    return 0


if __name__ == "__main__":
    run_entry_point(main)
