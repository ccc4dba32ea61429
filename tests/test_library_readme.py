"""The library's list of modules is whole."""

import re
from pathlib import Path

LIBRARY = Path(__file__).parent.parent / "socrates"


def test_every_module_is_told_of_once():
    told = re.findall(r"\b([a-z_]+(?:\.py|/))", (LIBRARY / "README.md").read_text())
    there = [f"{path.name}/" if path.is_dir() else path.name for path in LIBRARY.iterdir()]
    there = [name for name in there if name not in ("__init__.py", "__pycache__/", "README.md")]
    assert sorted(told) == sorted(there)
