"""The fingerprint of the tokenized set that a run reads, found without loading torch; a program for `data.py`.

A process of its own, because it makes transformers believe that there is no torch: that takes a second instead of
several, and could not be taken back. It reads a JSON object (folder, data, system, max_length) from standard input.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Any


def main() -> None:
    """Read the request, print the fingerprint."""
    request = json.load(sys.stdin)
    find = importlib.util.find_spec

    def find_all_but_torch(name: str, *more: Any) -> Any:
        return None if name.partition(".")[0] == "torch" else find(name, *more)

    importlib.util.find_spec = find_all_but_torch
    from pathlib import Path

    from socrates.data.tokenized import tokenized_fingerprint
    from socrates.model.load import load_tokenizer

    tokenizer = load_tokenizer(Path(request["folder"]))
    print(tokenized_fingerprint(request["data"], tokenizer, request["system"], request["max_length"]))


if __name__ == "__main__":
    main()
