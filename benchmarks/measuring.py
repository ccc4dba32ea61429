"""Time that a busy machine does not decide, and what this machine could do at most."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


def seconds_of(run: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """(seconds, result): CPU time of this thread, which computes everything; on a GPU the wall clock's."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        result = run()
        torch.cuda.synchronize(device)
        return time.perf_counter() - started, result
    started = time.thread_time()
    result = run()
    return time.thread_time() - started, result


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.15) -> float:
    """The most floating-point operations a second that a product of two square matrices reached, over several sizes."""
    import torch

    best = 0.0
    for size in (4096, 8192, 12288) if device.type == "cuda" else (512, 1024, 1536, 2048):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        taken, _ = seconds_of(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)  # also warms up
        for _ in range(5):
            times = max(1, int(seconds / max(taken, 1e-6)))
            run = lambda a=a, b=b, out=out, times=times: [torch.mm(a, b, out=out) for _ in range(times)]  # noqa: E731
            taken = seconds_of(run, device)[0] / times
            best = max(best, 2 * size**3 / taken)
    return best


def machine(device: torch.device, packages: Sequence[str] = ()) -> str:
    """What was measured on, in one line; ``packages`` were used besides the usual ones."""
    import torch

    if device.type == "cuda":
        what = torch.cuda.get_device_name(device)
    else:
        names = [
            line.split(":", 1)[1].strip()
            for line in (Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else "").splitlines()
            if line.startswith("model name")
        ]
        what = f"one thread of {names[0] if names else platform.processor() or platform.machine()}"
        what += f" ({torch.backends.cpu.get_cpu_capability()})"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy", *packages))
    return f"{what}; Python {platform.python_version()}, {versions}"
