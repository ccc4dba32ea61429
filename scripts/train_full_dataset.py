#!/usr/bin/env python3
r"""Train the adapter: one process of a run that DeepSpeed's launcher, torchrun or Slurm starts.

  deepspeed --num_gpus=4 scripts/train_full_dataset.py \
      --config config_full_dataset.json --deepspeed deepspeed_config.json

  python scripts/train_full_dataset.py --config config_full_dataset.json \
      --deepspeed deepspeed_config.json --dry-run

On several machines with one file system: deepspeed --hostfile=FILE …, torchrun --nnodes=2 …, or Slurm, see
examples/cluster/README.md; the ranks then prove that they share the output folder before they train.

Run again after a crash, the same command goes on from the newest complete checkpoint in the config's output_dir;
on another number of processes (num_processes in the config) too. What it cannot go on with exactly, it says.
SIGTERM, and max_cost_usd before it is passed, end it after a checkpoint; the same command goes on from it.
Exit status: 0 done or stopped after a checkpoint (or, with --dry-run, nothing is wrong), 2 cannot.
"""

import _bootstrap  # noqa: F401

import argparse
import json
import os
from collections import Counter

from socrates.errors import make_parser, run_entry_point


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="the run config (JSON)")
    parser.add_argument("--deepspeed", required=True, metavar="FILE", help="the DeepSpeed config (JSON)")
    parser.add_argument(
        "--resume-from-checkpoint",
        default="auto",
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
    if arguments.dry_run:
        return dry_run(arguments)
    # Micro-batches differ in size: without it the allocator keeps blocks that fit none of them. Before torch is loaded.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    from socrates.config import load_training
    from socrates.training.distributed import end_process_group, errors_from_rank_zero
    from socrates.training.train import train

    with errors_from_rank_zero():
        config, deepspeed = load_training(arguments.config, arguments.deepspeed)
    train(config, deepspeed, arguments.resume_from_checkpoint, arguments.resume_weights_only)
    end_process_group()
    return 0


def dry_run(arguments: argparse.Namespace) -> int:
    """Check the config, the DeepSpeed file and each row of the data, and print what the run would be."""
    from socrates.config import load_training
    from socrates.console import progress
    from socrates.data.dataset import sha256_of_part
    from socrates.data.records import read_answers

    config, deepspeed = load_training(arguments.config, arguments.deepspeed)
    print("Resolved config:", json.dumps(config.to_dict(), indent=2), sep="\n")
    rows = {}
    for path in (config.train_file, config.evaluation_file):
        studies = Counter(answer.cell.study_id for answer in progress(read_answers(path), f"checking {path}"))
        rows[path] = studies.total()
        print(f"{path}: {rows[path]} rows of {len(studies)} studies, sha256 {sha256_of_part(path)}")
    steps, examples = config.planned_steps(rows[config.train_file]), config.training.global_batch_size
    if config.data.rows_per_cell:
        from socrates.machine.preflight.costs import check_costs
        from socrates.machine.preflight.gpus import Gpu
        from socrates.machine.preflight.inputs import inspect_data, model_state

        assumed = [Gpu("A100 80GB", 80 * 2**30, 8, 0)] * config.training.num_processes
        data = inspect_data(config)[1]
        steps = data.steps
        *_, cost = check_costs(config, deepspeed, model_state(config), data, assumed)
        print(f"On {len(assumed)} x {assumed[0].name} (assumed): {cost.text}")
    checkpoints = -(-steps // config.training.save_steps)
    print(f"{steps} steps of {examples} examples, {checkpoints} checkpoints in {config.output_dir}")
    print("Dry run: nothing is wrong with config, DeepSpeed file and data")
    return 0


if __name__ == "__main__":
    run_entry_point(main)
