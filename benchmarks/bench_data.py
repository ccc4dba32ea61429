#!/usr/bin/env python3
r"""Measure what a data set takes to be made ready, and what a training takes from its start to its first step.

    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_data.py --rows 5000 30000             # three minutes
    OMP_NUM_THREADS=1 venv/bin/python benchmarks/bench_data.py --rows 100000 2901390         # fifteen minutes, 25 GB

Rows are made up in the published layout (`made_data.py`). `scripts/prepare_data.py` prepares and tokenizes them, and
the guide's command trains a tiny model on each set for a step; few and many rows take turns, and the quickest start
counts. The plain way (`datasets.load_dataset("json")`, then SFTTrainer's own preparation) is measured beside this
project's on --plain-rows. Time is that of the processors, all processes together, but for the starts; memory is the
most that all processes of a stage held at once (PSS, sampled ten times a second).

Exit status: 0 measured, 1 a training on the most rows took over 20% longer to start than on the fewest, 2 cannot.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import frame
import psutil
from made_data import make_data

from socrates.config import load_config
from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, run_entry_point
from socrates.files import read_json, write_json
from socrates.rehearsal.base_model import make_base_model
from socrates.rehearsal.rehearsal import rehearsal_config, rehearsal_deepspeed

_SCRIPTS = frame.ROOT / "scripts"
_MOST_SLOWER = 1.2
_MOST_GIB = {"preparing": 1.5, "tokenizing": 3.0}
_MINE, _PLAIN = "tokenizing, this project", "tokenizing, SFTTrainer's preparation"
_HEAD = ("stage", "rows", "CPU seconds", "ms of CPU a row", "rows a second of CPU", "seconds", "peak memory (GiB)")


@dataclass(frozen=True)
class Line:
    """One stage on one number of rows."""

    stage: str
    rows: int
    cpu: float  # seconds, of all its processes
    seconds: float  # of the clock
    memory: int  # bytes, of all its processes at once


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print."""
    parser = frame.arguments(__doc__, repeats=4)
    frame.add_count(parser, "--rows", [5000, 30_000], "made-up rows", nargs="+")
    frame.add_count(parser, "--plain-rows", 3000, "for the plain way")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="for the data, removed at the end")
    a = parser.parse_args(argv)
    sizes = sorted(a.rows)
    if a.work is not None:
        a.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=a.work) as name:
        projects = [Path(name) / str(rows) for rows in sizes]
        lines = plain_lines(Path(name) / "plain", a.plain_rows, a.seed)
        for project, rows in zip(projects, sizes, strict=True):
            lines += [prepared(project, rows, a.seed), tokenized(project)]
            shutil.rmtree(project / "source")
        starts = [[start(project, turn) for project in projects] for turn in range(a.repeats)]
    quickest = [min(turns) for turns in zip(*starts, strict=True)]
    slower = quickest[-1] / quickest[0]
    text = report(lines) + "\n# From a training's start to its first step\n\n"
    text += frame.table(
        ("rows", "quickest (s)", "all (s)"),
        [(rows, f"{quickest[i]:.2f}", ", ".join(f"{turn[i]:.2f}" for turn in starts)) for i, rows in enumerate(sizes)],
    )
    what = f"at most {_MOST_SLOWER} times as long with the most rows as with the fewest"
    frame.publish(text + "\n" + frame.aim(what, f"{slower:.3f}", slower <= _MOST_SLOWER), a.output)
    return EXIT_DONE if slower <= _MOST_SLOWER else EXIT_NO


def prepared(project: Path, rows: int, seed: int) -> Line:
    """Make rows, prepare them, and make all that a training needs."""
    make_data(project / "source", rows, seed)
    line = _measured("preparing", rows, project)
    _make_base(project)
    config = rehearsal_config("models/base", "data/set", steps=1, save_steps=1, global_batch_size=4, bf16=False)
    config["training"] |= {"num_processes": 1, "logging_steps": 1}
    write_json(project / "config.json", config)
    write_json(project / "deepspeed_config.json", rehearsal_deepspeed())
    return line


def tokenized(project: Path) -> Line:
    """Tokenize what is prepared for training."""
    return _measured("tokenizing", _training_rows(project), project, "--tokenize", "--config", "config.json")


def _training_rows(project: Path) -> int:
    return read_json(project / "data" / "set" / "metadata.json", "metadata")["rows"]["train"]


def plain_lines(project: Path, rows: int, seed: int) -> list[Line]:
    """Rows tokenized in this process, here and by SFTTrainer, what has to be imported left out."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from socrates.data.tokenize import tokenize_for

    def conversation(row: dict[str, Any]) -> dict[str, Any]:
        prompt, answer = (
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": str(row["response"])},
        )
        return {"prompt": [prompt], "completion": [answer]}

    def by_trl() -> None:
        data = load_dataset("json", data_files=str(file), split="train", cache_dir=str(project / "cache"))
        data = data.map(conversation, remove_columns=data.column_names)
        SFTTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)

    prepared(project, rows, seed)
    base, file = project / "models" / "base", project / "data" / "set" / "train.jsonl"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    args = SFTConfig(output_dir=str(project / "run"), use_cpu=True, bf16=False, max_length=2048, report_to="none")
    count = _training_rows(project)
    with contextlib.chdir(project):
        config = load_config("config.json")
        return [
            _timed(_MINE, count, lambda: tokenize_for(config)),
            _timed(_PLAIN, count, by_trl),
        ]


def start(project: Path, turn: int) -> float:
    """Seconds from the start of a training until it has told its first step."""
    config = (project / "config.json").read_text().replace("models/socrates", f"models/run{turn}-socrates")
    (project / f"config{turn}.json").write_text(config)
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus=1", f"--master_port={frame.free_port()}"]
    command += [str(_SCRIPTS / "train_full_dataset.py"), "--config", f"config{turn}.json"]
    command += ["--deepspeed", "deepspeed_config.json"]
    # The launcher starts `deepspeed`'s processes by this Python and needs its tools (ninja) on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"}
    started, seconds, lines = time.perf_counter(), None, []
    with subprocess.Popen(
        command,
        cwd=project,
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
    print(f"{project.name} rows: first step after {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


def report(lines: Sequence[Line]) -> str:
    """The stages, and each aim with what was reached."""
    packages = ("tokenizers", "transformers", "trl", "datasets", "pyarrow", "numpy")
    rows = [
        (
            line.stage,
            line.rows,
            f"{line.cpu:.1f}",
            f"{1000 * line.cpu / line.rows:.3f}",
            f"{line.rows / line.cpu:,.0f}",
            f"{line.seconds:.1f}",
            f"{line.memory / 2**30:.2f}" if line.memory else "",
        )
        for line in lines
    ]
    mine, plain = (next(line for line in lines if line.stage == stage) for stage in (_MINE, _PLAIN))
    times = plain.cpu / mine.cpu
    text = (
        f"# Data made ready: rows a second and memory\n\nMachine: {frame.machine(None, packages)}.\n"
        "Rows: made up in the published layout; tokenized are those that train. CPU: seconds of all processes of a "
        "stage, all of `scripts/prepare_data.py`; in the first two lines what has to be imported is left out. Memory: "
        f"PSS of all its processes at once, the most.\n\n{frame.table(_HEAD, rows)}\n"
    )
    text += frame.aim("at least 8 times as fast a core as SFTTrainer's preparation", f"{times:.1f}", times >= 8)
    for stage, limit in _MOST_GIB.items():
        most = max(line.memory for line in lines if line.stage == stage) / 2**30
        text += frame.aim(f"{stage}: peak memory under {limit} GiB", f"{most:.2f}", most < limit)
    return text


def _make_base(project: Path) -> None:
    """A tiny model with Qwen2's kind of tokenizer, made from the rows: about four characters a token, as Qwen's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, head = project / "models" / "base", project / "head.jsonl"
    with (project / "data" / "set" / "train.jsonl").open(encoding="utf-8") as rows:
        head.write_text("".join(itertools.islice(rows, 2000)), encoding="utf-8")
    make_base_model(folder, head, steps=0)
    prompts = [json.loads(line)["prompt"] for line in head.read_text(encoding="utf-8").splitlines()]
    small, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = small.train_new_from_iterator(prompts, vocab_size=8192, show_progress=False)
    tokenizer.save_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)


def _timed(stage: str, rows: int, run: Callable[[], object]) -> Line:
    started, cpu = time.perf_counter(), _cpu()
    run()
    return Line(stage, rows, _cpu() - cpu, time.perf_counter() - started, 0)


def _measured(stage: str, rows: int, project: Path, *options: str) -> Line:
    """Run `scripts/prepare_data.py` with its processes watched."""
    command = [sys.executable, str(_SCRIPTS / "prepare_data.py"), "--source", "source", "--output", "data/set"]
    started, cpu, most = time.perf_counter(), _cpu(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*command, *options], cwd=project, stdout=said, stderr=said)
        while process.poll() is None:
            most = max(most, _memory_of(process.pid))
            time.sleep(0.1)
        said.seek(0)
        if process.returncode:
            raise SocratesError(f"{stage}: exit status {process.returncode}\n{said.read()[-2000:]}")
    line = Line(stage, rows, _cpu() - cpu, time.perf_counter() - started, most)
    print(f"{stage} {rows} rows: {line.seconds:.1f} s", file=sys.stderr, flush=True)
    return line


def _memory_of(pid: int) -> int:
    """PSS of a process and all below it, now."""
    total = 0
    with contextlib.suppress(psutil.Error):  # one has just ended
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            total += process.memory_full_info().pss
    return total


def _cpu() -> float:
    """Seconds of the processors that this process and those that it has waited for have taken."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in used)


if __name__ == "__main__":
    run_entry_point(main)
