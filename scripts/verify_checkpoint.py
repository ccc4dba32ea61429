#!/usr/bin/env python3
"""Read checkpoints through and tell whether every byte is the one that was saved.

    python scripts/verify_checkpoint.py models/socrates-qwen-test-run models/other-run/checkpoint-500

Exit status: 0 all intact, 1 some are not, 2 cannot (no such folder, no checkpoint in it).
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

from pathlib import Path

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, escaped, make_parser, run_entry_point


def main() -> int:
    """Parse the arguments, verify each folder, print."""
    parser = make_parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a checkpoint, or a run's folder")
    folders = [found for given in parser.parse_args().folders for found in _checkpoints(given)]

    from socrates.remote.local import local_state

    are_intact = True
    for folder in folders:
        state = local_state(folder)
        are_intact = are_intact and state.intact
        print(escaped(f"{folder}: {_words(state)}"), flush=True)
    return EXIT_DONE if are_intact else EXIT_NO


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
        left = f"{len(manifest.left_out)} left on the instance"
        return f"light: {len(manifest.files)} files intact, {size:.1f} MB ({left})"
    return f"intact ({len(manifest.files)} files, {size:.1f} MB)"


if __name__ == "__main__":
    run_entry_point(main)
