"""Made-up answers of the rehearsal's kind, as a prepared set of any size."""

from itertools import chain

from socrates.files import sha256_file, write_json, write_jsonl
from socrates.rehearsal.rehearsal import made_studies


def make_sample_data(folder, seed=0, *, train_studies=10, val_studies=5, people=24):
    """Write `train.jsonl`, `val.jsonl` (other studies) and `metadata.json`."""
    studies = made_studies(train_studies + val_studies, seed, people)
    parts = {"train": studies[:train_studies], "val": studies[train_studies:]}
    for part, some in parts.items():
        write_jsonl(folder / f"{part}.jsonl", chain.from_iterable(some))
    rows = {part: sum(map(len, some)) for part, some in parts.items()}
    hashes = {part: sha256_file(folder / f"{part}.jsonl") for part in parts}
    write_json(folder / "metadata.json", {"split": "study", "rows": rows, "sha256": hashes})
