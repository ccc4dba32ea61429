#!/usr/bin/env python3
"""Read checkpoints through and tell whether every byte is the one that was saved.

    python scripts/verify_checkpoint.py models/socrates-qwen-test-run models/other-run/checkpoint-500

Exit status: 0 all intact, 1 some are not, 2 cannot (no such folder, no checkpoint in it).
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

import json
import sys
from pathlib import Path

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, make_parser, run_entry_point


def main() -> int:
    """Parse the arguments, verify each folder, print."""
    parser = make_parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a checkpoint, or a run's folder")
    parser.add_argument("--json", action="store_true", help="the answer as JSON")
    arguments = parser.parse_args()

    from socrates.remote.local import local_state

    states = []
    for folder in [found for asked in arguments.folders for found in _checkpoints(asked)]:
        if sys.stderr.isatty():
            print(f"reading {folder} ...", file=sys.stderr, flush=True)
        state = local_state(folder)
        states.append(state)
        if not arguments.json:
            print(f"{folder}: {_words(state)}", flush=True)
    if arguments.json:
        rows = [{"path": str(s.path), "state": s.kind, "intact": s.intact, "reason": s.reason} for s in states]
        print(json.dumps(rows, indent=2))
    return EXIT_DONE if all(state.intact for state in states) else EXIT_NO


def _checkpoints(folder: Path) -> list[Path]:
    from socrates.checkpoint import MANIFEST, checkpoint_step, list_checkpoints

    if not folder.is_dir():
        raise SocratesError(f"{folder}: no such folder")
    if checkpoint_step(folder.resolve()) is not None or (folder / MANIFEST).is_file():
        return [folder]
    found = list_checkpoints(folder)[::-1]
    if not found:
        raise SocratesError(f"{folder}: holds no checkpoint-N; name a checkpoint or a run's folder (models/RUN)")
    return found


def _words(state) -> str:
    from socrates.checkpoint import read_manifest

    if state.reason:
        return f"damaged: {state.reason}"
    manifest = read_manifest(state.path)
    size = sum(size for size, _ in manifest.files.values()) / 10**6
    if manifest.left_out:
        return (
            f"light: {len(manifest.files)} files intact, {size:.1f} MB ({len(manifest.left_out)} left on the instance)"
        )
    return f"intact ({len(manifest.files)} files, {size:.1f} MB)"


if __name__ == "__main__":
    run_entry_point(main)
