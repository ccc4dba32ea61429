"""A seeded fuzz of every reader of files and answers that others may have made (`readers.py`).

Each input is a good file, mutated. Whatever it holds: no traceback, no hang, no more than a GiB of memory, no control
character on the terminal, and no answer (exit status 0 or 1) on a required value that is none.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import re
import resource
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz.mutations import mutated
from fuzz.readers import OUT, Reader, make_readers
from tqdm import tqdm

from socrates.errors import run_entry_point
from socrates.model.load import quiet_libraries

PATIENCE, MEMORY = 10.0, 2**30  # seconds; bytes beyond what the libraries take
_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORK = multiprocessing.get_context("fork")


def play(reader: Reader, folder: Path, seed: str, count: int) -> int:
    """Print on which inputs something is wrong, and what; returns how many they are."""
    good = {name: (folder / name).read_bytes() for name in reader.files}
    number, wrong = 0, 0
    while number < count:  # a process that hangs or dies: the next one goes on behind it
        ours, theirs = _FORK.Pipe()
        worker = _FORK.Process(target=_work, args=(theirs.send, reader, folder, good, seed, range(number, count)))
        worker.start()
        theirs.close()
        problem = None
        while number < count and problem is None:
            problem = f"still runs after {PATIENCE:.0f} s"
            with contextlib.suppress(EOFError):
                if ours.poll(PATIENCE):
                    problem = "its process died"
                    problem = ours.recv()
            if problem:
                wrong += 1
                name, content = _input(good, seed, number)
                at = next((at for at, (a, b) in enumerate(zip(good[name], content, strict=False)) if a != b), 0)
                was, now = (text[max(at - 30, 0) : at + 70] for text in (good[name], content))
                print(f"{seed} {number}: {problem}\n  {name}, byte {at}: {was} -> {now} ({len(content)} bytes)")
            number += 1
        worker.kill()
        worker.join()
    return wrong


def _input(good: dict[str, bytes], seed: str, number: int) -> tuple[str, bytes]:
    rng = Random(f"{seed}-{number}")
    name = rng.choice(list(good))
    return name, mutated(rng, good[name], Path(name).suffix)


def _work(
    send: Callable[[str | None], None], reader: Reader, folder: Path, good: dict[str, bytes], seed: str, numbers: range
) -> None:
    os.chdir(folder)
    for name, content in good.items():  # one that was killed may have left another
        Path(name).write_bytes(content)
    tqdm.set_lock(threading.RLock())  # ours may have been held by a thread that is not in this process
    with tempfile.TemporaryFile() as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)  # also what libraries print
        _run(reader, output)  # what is loaded late, and memory set aside for later
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        for number in numbers:
            name, content = _input(good, seed, number)
            Path(name).write_bytes(content)
            status, problem = _run(reader, output)
            false = f"ends with status {status}, a false answer" if reader.is_false(status, content) else None
            send(problem or false)
            Path(name).write_bytes(good[name])


def _run(reader: Reader, output: io.BufferedRandom) -> tuple[int, str | None]:
    """The program's exit status, and what is wrong with it or its words, if anything."""
    shutil.rmtree(OUT, ignore_errors=True)
    output.seek(0)
    output.truncate()
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    status = -1
    try:
        run_entry_point(reader.program)
    except SystemExit as leaving:
        status = leaving.code
    output.seek(0)
    said = output.read().decode(errors="surrogateescape")
    if "Traceback" in said:
        return status, f"traceback: {said.strip().splitlines()[-2][:200]}"
    if found := _NOT_SHOWN.search(said):
        return status, f"prints {found[0]!r}: {said[max(found.start() - 60, 0) : found.end() + 20]!r}"
    return status, None if status in (0, 1, 2) else f"ends with status {status}"


def main() -> int:
    """Play the inputs, print what is wrong, then a line for each reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", nargs="?", default="0")
    parser.add_argument("count", type=int, nargs="?", default=2000)
    parser.add_argument("--only", metavar="READER", help="this reader")
    arguments = parser.parse_args()
    quiet_libraries(bars=False)
    all_wrong = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        for name, reader in make_readers(Path(place)).items():
            if arguments.only in (None, name):
                all_wrong += (wrong := play(reader, Path(place) / name, f"{arguments.seed}-{name}", arguments.count))
                print(f"{name:<12}{arguments.count - wrong:>6} of {arguments.count} good", flush=True)
    return 1 if all_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
