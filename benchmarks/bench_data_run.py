"""`bench_data.py`'s run: the stages one after the other, each a process of its own, and the table."""

from __future__ import annotations

import itertools
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from made_data import make_data

from socrates.errors import SocratesError

_HERE = Path(__file__).resolve().parent
_PREPARE = _HERE.parent / "scripts" / "prepare_data.py"
_STAGES = _HERE / "bench_data_stages.py"
_SAMPLE_EVERY = 0.1  # seconds
_ALL_ROWS = 2_901_390
_PLAIN, _MINE_ALONE, _PREPARING, _TOKENIZING = "plain: SFTTrainer", "this, one process", "preparing", "tokenizing"


@dataclass(frozen=True)
class Line:
    """One stage on one number of rows."""

    stage: str
    rows: int
    cpu: float  # seconds, of all its processes
    seconds: float  # of the clock
    memory: int  # bytes, of all its processes at once
    note: str = ""


@dataclass(frozen=True)
class Run:
    """All lines, and what they were measured on."""

    lines: list[Line]
    processes: int
    characters: float  # of a prompt, on average
    tokens: float  # of a row
    distinct: float  # share of the stimuli, in the largest set
    same: bool  # ids and labels, in both ways
    plain: dict[str, dict[str, Any]]  # by kind of rows: both ways' CPU seconds


def measure(
    folder: Path, *, rows: list[int], plain_rows: int, processes: int, tokenizer: Path | None, seed: int
) -> Run:
    """Make rows, run all stages, remove what is not needed any more as soon as possible."""
    lines: list[Line] = []
    plain: dict[str, dict[str, Any]] = {}
    same, shape = True, {}
    for kind, fresh in (("texts as published", 0.0), ("no text comes twice", 1.0)):
        file, _ = _rows_file(folder / kind, plain_rows, seed, fresh)
        if tokenizer is None:
            tokenizer = _make_tokenizer(file, folder / "tokenizer")
        theirs, memory = _run(_STAGES, "plain", file, tokenizer, folder / kind / "plain")
        lines.append(Line(_PLAIN, plain_rows, theirs["work_cpu"], theirs["work_seconds"], memory, kind))
        mine, memory = _run(_STAGES, "tokenize", file, tokenizer, 1)
        lines.append(Line(_MINE_ALONE, plain_rows, mine["work_cpu"], mine["work_seconds"], memory, kind))
        found, _ = _run(_STAGES, "compare", mine["folder"], folder / kind / "plain" / "prepared", tokenizer)
        same = same and found["same"] and found["rows"] == plain_rows
        plain[kind] = {"theirs": theirs["work_cpu"], "reading": theirs["reading_cpu"], "mine": mine["work_cpu"]}
        shutil.rmtree(folder / kind)
    for count in rows:
        place = folder / f"{count}"
        file, shape = _rows_file(place, count, seed, 0.0)
        lines.append(_prepare(place, count))
        mine, memory = _run(_STAGES, "tokenize", file, tokenizer, processes)
        lines.append(Line(_TOKENIZING, count, mine["work_cpu"], mine["work_seconds"], memory, f"{processes} processes"))
        tokens = mine["tokens"] / mine["rows"]
        shutil.rmtree(place)
    return Run(lines, processes, shape["characters"], tokens, shape["distinct"], same, plain)


def report(run: Run) -> str:
    """The table, what it was measured on, and each aim with what was reached."""
    by_stage = {stage: [line for line in run.lines if line.stage == stage] for stage in (_PREPARING, _TOKENIZING)}
    return "\n".join(
        [
            "# Data made ready: rows a second and memory",
            "",
            f"Machine: {_machine()}.",
            f"Rows: made up in the published layout, {run.characters:.0f} characters a prompt, {run.tokens:.0f} tokens "
            f"a row, {run.distinct:.0%} of the stimuli distinct. CPU: seconds of all processes of a stage, imports "
            "left out (all of the script where it is one). Memory: PSS of all its processes at once, the most.",
            "",
            "| stage | rows | what | CPU seconds | ms of CPU a row | rows a second of CPU | seconds | peak memory |",
            "|---|--:|---|--:|--:|--:|--:|--:|",
            *(
                f"| {line.stage} | {line.rows} | {line.note} | {line.cpu:.1f} | {1000 * line.cpu / line.rows:.3f} | "
                f"{line.rows / line.cpu:.0f} | {line.seconds:.1f} | {line.memory / 2**20:.0f} MiB |"
                for line in run.lines
            ),
            "",
            *(
                f"- {kind}: {both['theirs'] / both['mine']:.1f} times as fast a core as SFTTrainer's preparation alone "
                f"({'at least 8: met' if both['theirs'] / both['mine'] >= 8 else 'at least 8: not met'}); "
                f"{(both['theirs'] + both['reading']) / both['mine']:.1f} times with the reading that it needs before"
                for kind, both in run.plain.items()
            ),
            "- ids and labels of both ways, the template's last line break aside: "
            + ("the same" if run.same else "they DIFFER"),
            *itertools.chain.from_iterable(_growth(stage, lines) for stage, lines in by_stage.items() if lines),
        ]
    )


def _growth(stage: str, lines: list[Line]) -> list[str]:
    first, last = lines[0], lines[-1]
    aim = 1.5 if stage == _PREPARING else 3.0
    most = max(line.memory for line in lines) / 2**30
    said = [f"- {stage}: peak memory {most:.2f} GiB (under {aim} GiB: {'met' if most < aim else 'not met'})"]
    if first.rows != last.rows:
        rest = (last.cpu - first.cpu) / (last.rows - first.rows)  # a row more, without what it takes to start
        said.append(
            f"- {stage}: {1000 * first.cpu / first.rows:.3f} ms of CPU a row with {first.rows} rows, "
            f"{1000 * last.cpu / last.rows:.3f} with {last.rows} (what it takes to start included)"
        )
        if last.rows < _ALL_ROWS:
            clock = (last.seconds - first.seconds) / (last.rows - first.rows)
            said.append(
                f"- {stage}: an estimate for {_ALL_ROWS} rows: {rest * _ALL_ROWS / 60:.0f} minutes of CPU, "
                f"{clock * _ALL_ROWS / 60:.0f} minutes of the clock"
            )
    return said


def _rows_file(folder: Path, rows: int, seed: int, fresh: float) -> tuple[Path, dict[str, float]]:
    """Parquet files in ``folder/source``, and the same rows as ``folder/train.jsonl``."""
    import pyarrow.dataset

    make_data(folder / "source", rows, seed, fresh)
    characters, stimuli = 0, set()
    file = folder / "train.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for batch in pyarrow.dataset.dataset(folder / "source" / "data").to_batches(batch_size=5000):
            for row in batch.to_pylist():
                del row["reasoning"]
                characters += len(row["prompt"])
                stimuli.add(hash(row["stimuli"]))
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return file, {"characters": characters / rows, "distinct": len(stimuli) / rows}


def _make_tokenizer(file: Path, folder: Path) -> Path:
    """Qwen2's kind of tokenizer, made from the rows, with about four characters a token as Qwen's has on real ones."""
    from socrates.data.records import read_answers
    from socrates.rehearsal.base_model import make_base_model

    head = folder.with_suffix(".jsonl")
    with file.open(encoding="utf-8") as rows, head.open("w", encoding="utf-8") as out:
        out.writelines(itertools.islice(rows, 2000))
    make_base_model(folder, head, steps=0)
    from transformers import AutoTokenizer

    small = AutoTokenizer.from_pretrained(folder)
    prompts = [answer.prompt for answer in read_answers(head)]
    small.train_new_from_iterator(prompts, vocab_size=8192, show_progress=False).save_pretrained(folder)
    return folder


def _prepare(place: Path, rows: int) -> Line:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    memory = _peak(_PREPARE, "--source", place / "source", "--output", place / "prepared")[1]
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Line(_PREPARING, rows, cpu, seconds, memory, "scripts/prepare_data.py")


def _run(*command: Any) -> tuple[dict[str, Any], int]:
    output, memory = _peak(*command)
    return json.loads(output.splitlines()[-1]), memory


def _peak(*command: Any) -> tuple[str, int]:
    """Run a Python program; (its standard output, the most memory that its processes held at once, in bytes)."""
    with subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        parts: dict[str, str] = {}
        readers = [
            threading.Thread(target=lambda name=name: parts.update({name: getattr(process, name).read()}))
            for name in ("stdout", "stderr")
        ]
        for reader in readers:
            reader.start()
        most = 0
        while process.poll() is None:
            most = max(most, _memory_of(process.pid))
            time.sleep(_SAMPLE_EVERY)
        for reader in readers:
            reader.join()
    if process.returncode:
        raise SocratesError(f"{command[0]}: exit status {process.returncode}\n{parts['stderr'][-2000:]}")
    return parts["stdout"], most


def _memory_of(pid: int) -> int:
    import psutil

    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


def _machine() -> str:
    names = [line.split(":", 1)[1].strip() for line in _cpu_info() if line.startswith("model name")]
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("tokenizers", "transformers", "trl", "datasets", "pyarrow", "numpy")
    )
    cores = f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"
    return f"{cores}; Python {platform.python_version()}, {versions}"


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
