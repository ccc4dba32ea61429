#!/usr/bin/env python3
r"""Measure how long a training takes from its start to its first optimizer step, with few and with many rows.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_data_start.py --rows 100000 2901390

The tokenized sets are made up: rows of the real mean length, as many as are asked for, beside a data file as large as
so many rows are. Each training is the guide's command with a tiny model on one CPU process; few and many rows take
turns, --repeat times, and the quickest start of each counts. The data file's digest is known already, as it is from the
second start on a machine; the time that the first one takes to read the file is told apart.

Exit status: 0 measured, 1 the most rows took over 20% longer than the fewest, 2 cannot.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point

ROOT = Path(__file__).resolve().parent.parent
_BYTES_A_ROW, _TOKENS_A_ROW, _MOST_SLOWER = 1850, 370, 1.2


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 2_901_390], metavar="N")
    parser.add_argument("--repeat", type=int, default=4, metavar="N", help="starts, of which the quickest counts")
    arguments = parser.parse_args(argv)
    if min(*arguments.rows, arguments.repeat) < 1:
        parser.error("--rows and --repeat are at least 1")
    print("| rows | start to first step (s) | all starts | first reading of the data file, once a machine (s) |")
    print("|--:|--:|---|--:|", flush=True)
    sizes = sorted(arguments.rows)
    with tempfile.TemporaryDirectory(prefix="bench-start-") as folder:
        projects = [Path(folder) / str(rows) for rows in sizes]
        readings = [_make_project(project, rows) for project, rows in zip(projects, sizes, strict=True)]
        starts = [[_start(project, number) for project in projects] for number in range(arguments.repeat)]
    quickest = [min(times) for times in zip(*starts, strict=True)]
    for i, rows in enumerate(sizes):
        times = ", ".join(f"{turn[i]:.2f}" for turn in starts)
        print(f"| {rows} | {quickest[i]:.2f} | {times} | {readings[i]:.2f} |", flush=True)
    slower = quickest[-1] / quickest[0]
    print(f"\n{slower:.3f} times as long with the most rows as with the fewest (at most {_MOST_SLOWER})")
    return EXIT_DONE if slower <= _MOST_SLOWER else EXIT_NO


def _make_project(folder: Path, rows: int) -> float:
    """A project folder with a base model, a config and a tokenized set; seconds that the data file's digest took."""
    from socrates.config import load_config
    from socrates.data.tokenized import tokenized_fingerprint
    from socrates.files import read_json, remembered_sha256, sha256_file, write_json
    from socrates.model.load import load_tokenizer
    from socrates.rehearsal.base_model import make_base_model
    from socrates.rehearsal.rehearsal import make_sample_data, rehearsal_config

    data, model = folder / "data" / "set", folder / "models" / "base"
    make_sample_data(data, people=10, train_studies=4, val_studies=2)
    make_base_model(model, data / "train.jsonl", steps=0)
    config = rehearsal_config("models/base", "data/set", steps=1, save_steps=1)
    config["training"] |= {"global_batch_size": 4, "num_processes": 1}
    config["training"] |= {"logging_steps": 1}
    write_json(folder / "config.json", config)
    zero = {"stage": 2, "contiguous_gradients": True}
    write_json(
        folder / "deepspeed_config.json",
        {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "zero_optimization": zero}
        | {"gradient_accumulation_steps": "auto", "gradient_clipping": "auto", "bf16": {"enabled": "auto"}},
    )
    with (data / "train.jsonl").open("r+b") as file:
        file.truncate(rows * _BYTES_A_ROW)  # as large as real rows are, but takes no space
    metadata = read_json(data / "metadata.json", "metadata")
    metadata["sha256"]["train"] = sha256_file(data / "train.jsonl")
    write_json(data / "metadata.json", metadata)
    time.sleep(2.5)  # a digest of a younger file is not remembered
    started = time.perf_counter()
    digest = remembered_sha256(data / "train.jsonl")
    reading = time.perf_counter() - started
    settings = load_config(folder / "config.json")
    tokenizer = load_tokenizer(str(model))
    name = tokenized_fingerprint(digest, tokenizer, settings.prompt.system_message, settings.training.max_length)
    _write_tokenized(data / f"tokenized-{name}", rows, len(tokenizer))
    return reading


def _write_tokenized(folder: Path, rows: int, vocabulary: int) -> None:
    import numpy as np
    import pyarrow as pa

    from socrates.files import write_json

    folder.mkdir()
    rng = np.random.default_rng(0)
    schema = pa.schema([("input_ids", pa.list_(pa.int32())), ("answer_tokens", pa.int32())])
    with pa.OSFile(str(folder / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for start in range(0, rows, 2500):  # as many as a chunk of the data file gives
            count = min(2500, rows - start)
            ids = pa.array(rng.integers(vocabulary, size=count * _TOKENS_A_ROW, dtype=np.int32))
            offsets = pa.array(np.arange(count + 1, dtype=np.int32) * _TOKENS_A_ROW)
            answers = pa.array(np.full(count, 2, np.int32))
            writer.write_batch(pa.record_batch([pa.ListArray.from_arrays(offsets, ids), answers], schema=schema))
    write_json(folder / "cells.json", {"made": {"0": [0]}})
    tokens, size = rows * _TOKENS_A_ROW, (folder / "data.arrow").stat().st_size
    info = {"rows": rows, "shortened": 0, "dropped": 0, "tokens": tokens, "longest": _TOKENS_A_ROW} | {"bytes": size}
    write_json(folder / "info.json", info)


def _start(folder: Path, number: int) -> float:
    """Seconds until the training has told its first step; it is ended then."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    config = (folder / "config.json").read_text().replace("models/socrates", f"models/run{number}-socrates")
    (folder / f"config{number}.json").write_text(config)
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus=1", f"--master_port={port}"]
    command += [str(ROOT / "scripts" / "train_full_dataset.py"), "--config", f"config{number}.json"]
    command += ["--deepspeed", "deepspeed_config.json"]
    # The launcher starts `deepspeed`'s processes by this Python and needs its tools (ninja) on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"}
    started, seconds, lines = time.perf_counter(), None, []
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            lines.append(line)
            if seconds is None and line.startswith("{'loss'"):
                seconds = time.perf_counter() - started
    if seconds is None or process.returncode:
        raise SocratesError(f"the training ended without a step:\n{''.join(lines[-20:])}")
    return seconds


if __name__ == "__main__":
    run_entry_point(main)
