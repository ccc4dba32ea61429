"""What all benchmarks share: arguments, the machine in words, time that a busy machine does not decide, tables.

Each program imports it first: it makes `socrates` importable.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from socrates.errors import SocratesError, make_parser  # noqa: E402
from socrates.files import atomic_write  # noqa: E402

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


def arguments(doc: str | None, *, shapes: Iterable[str] = (), repeats: int | None = None, seed: int = 0) -> Any:
    """A benchmark's parser: `--output` and `--seed`, and what is asked for.

    Args:
        doc: of the program.
        shapes: of random models: then there are `--device`, `--shape` (the first by default) and `--only`.
        repeats: how often each way is measured, of which the best counts: then there is `--repeats`.
        seed: the default.
    """
    parser = make_parser(doc)
    if shapes := tuple(shapes):
        parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        parser.add_argument("--shape", choices=shapes, default=shapes[0], help="of the random model")
        parser.add_argument("--only", nargs="+", metavar="WORD", help="only ways whose names hold one of these")
    if repeats is not None:
        add_count(parser, "--repeats", repeats, "of which the best counts")
    parser.add_argument("--seed", type=int, default=seed, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the tables there too (Markdown)")
    return parser


def add_count(parser: argparse.ArgumentParser, name: str, default: Any, what: str, **more: Any) -> None:
    """An option for a number of something, at least 1."""
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    parser.add_argument(name, type=_count, default=default, metavar="N", help=f"{what} ({shown})", **more)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def chosen(ways: Mapping[str, Result], words: Sequence[str] | None, always: Sequence[str]) -> dict[str, Result]:
    """The ways that `--only` leaves: those whose names hold one of the words, and those that others are compared to."""
    return {
        name: way
        for name, way in ways.items()
        if not words or name in always or any(word.lower() in name.lower() for word in words)
    }


def usable_device(name: str) -> torch.device:
    """`--device` as torch has it; on a CPU one thread computes, whose time is taken.

    Raises:
        SocratesError: there is none.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise SocratesError("--device cuda: there is no GPU that torch can use here")
    if name == "cpu":
        torch.set_num_threads(1)
    return torch.device(name)


def training_dtype(device: torch.device) -> torch.dtype:
    """What a model computes in: bfloat16 on a GPU, float32 on a CPU."""
    import torch

    return torch.bfloat16 if device.type == "cuda" else torch.float32


def now(device: torch.device) -> float:
    """Seconds: on a CPU that this process has computed, so that a busy machine decides little; on a GPU the clock's."""
    import torch

    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(run: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """(seconds, result)."""
    started = now(device)
    result = run()
    return now(device) - started, result


def in_turns(
    ways: Mapping[str, Callable[[], Result]], repeats: int, device: torch.device
) -> dict[str, tuple[float, Result]]:
    """The best time of each way and its result; they take turns, so that a change of the clock's rate meets all."""
    best: dict[str, tuple[float, Result]] = {}
    for _ in range(repeats):
        for name, run in ways.items():
            timed = seconds_of(run, device)
            print(f"{name}: {timed[0]:.1f} s", file=sys.stderr, flush=True)
            best[name] = min(best.get(name, timed), timed, key=lambda timed: timed[0])
    return best


def free_port() -> int:
    """Of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def matmul_peak(device: torch.device, seconds: float = 0.15) -> float:
    """The most floating-point operations a second that a product of two square matrices reached, over several sizes."""
    import torch

    best, dtype = 0.0, training_dtype(device)
    for size in (4096, 8192, 12288) if device.type == "cuda" else (512, 1024, 1536, 2048):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        taken, _ = seconds_of(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)  # also warms up
        for _ in range(5):
            times = max(1, int(seconds / max(taken, 1e-3)))  # a clock of CPU time may tick in milliseconds
            run = lambda a=a, b=b, out=out, times=times: [torch.mm(a, b, out=out) for _ in range(times)]  # noqa: E731
            taken = seconds_of(run, device)[0] / times
            best = max(best, 2 * size**3 / taken)
    return best


def machine(device: torch.device | None = None, packages: Sequence[str] = ("torch", "transformers", "numpy")) -> str:
    """What was measured on, in one line, with the versions of packages; None: all cores, without torch."""
    if device is not None and device.type == "cuda":
        import torch

        what = torch.cuda.get_device_name(device)
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text().splitlines() if info.is_file() else []
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        used = f"{os.cpu_count()} cores" if device is None else "one thread"
        what = f"{used} of {names[0] if names else platform.machine()}"
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{what}; Python {platform.python_version()}, {versions}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> str:
    """A Markdown table; the first ``left`` columns are words, the others numbers."""
    lines = [head, ["---"] * left + ["--:"] * (len(head) - left), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def aim(what: str, found: str, met: bool) -> str:
    """A line that says whether an aim was reached."""
    return f"- {what}: {found} ({'met' if met else 'not met'})\n"


def publish(text: str, output: Path | None) -> None:
    """Print a report, and write it to a file."""
    text = text.rstrip("\n") + "\n"
    print(text, end="")
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(output) as file:
            file.write(text)
