"""The stages that `bench_data.py` measures, each run as a process of its own: `python bench_data_stages.py STAGE …`.

Each prints one line of JSON: seconds of CPU (all its processes) and of the clock, without the imports.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

MAX_LENGTH = 2048


def tokenize(data_file: Path, tokenizer_folder: Path, _: int) -> dict[str, Any]:
    """This project's way, in one process."""
    import pyarrow  # noqa: F401
    from transformers import AutoTokenizer

    from socrates.data.tokenize import ensure_tokenized
    from socrates.files import read_json

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    spent: dict[str, Any] = {}
    with _measured(spent, "work"):
        folder = ensure_tokenized(data_file, tokenizer, None, MAX_LENGTH)
    return {**spent, "folder": str(folder), **read_json(folder / "info.json")}


def plain(data_file: Path, tokenizer_folder: Path, output: Path) -> dict[str, Any]:
    """`load_dataset("json")`, rows to conversations, then SFTTrainer's own preparation, on one process."""
    from datasets import load_dataset
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=1, **size))
    args = SFTConfig(output_dir=str(output / "run"), use_cpu=True, bf16=False, max_length=MAX_LENGTH, report_to="none")
    spent: dict[str, Any] = {}
    with _measured(spent, "reading"):
        rows = load_dataset("json", data_files=str(data_file), split="train", cache_dir=str(output / "cache"))
        rows = rows.map(_conversation, remove_columns=rows.column_names)
    with _measured(spent, "work"):
        trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.train_dataset.save_to_disk(str(output / "prepared"))
    return {**spent, "rows": len(rows)}


def compare(folder: Path, prepared: Path, tokenizer_folder: Path) -> dict[str, Any]:
    """Ids and labels of both ways, row by row; what the template puts after the end of the turn left aside."""
    from datasets import load_from_disk
    from transformers import AutoTokenizer

    from socrates.data.tokenized import load_tokenized
    from socrates.model.chat import end_of_turn_text

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    after = len(tokenizer(end_of_turn_text(tokenizer), add_special_tokens=False)["input_ids"]) - 1
    mine, theirs = load_tokenized(folder)[0], load_from_disk(str(prepared))
    same = len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=False):
        ids, labels = (b[name][: len(b[name]) - after] for name in ("input_ids", "labels"))
        answer = a["answer_tokens"]
        same = same and a["input_ids"].tolist() == ids == [*ids[:-answer], *labels[-answer:]]
        same = same and set(labels[:-answer]) == {-100}
    return {"same": same, "rows": len(mine)}


def _conversation(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": str(row["response"])}],
    }


@contextmanager
def _measured(spent: dict[str, Any], name: str) -> Iterator[None]:
    started, cpu = time.perf_counter(), _cpu()
    yield
    spent[f"{name}_seconds"] = time.perf_counter() - started
    spent[f"{name}_cpu"] = _cpu() - cpu


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in used)


if __name__ == "__main__":
    stage, *paths = sys.argv[1:]
    if stage == "tokenize":
        result = tokenize(Path(paths[0]), Path(paths[1]), int(paths[2]))
    else:
        result = {"plain": plain, "compare": compare}[stage](*map(Path, paths))
    print(json.dumps(result), flush=True)
