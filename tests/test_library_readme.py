"""The library's page names its rooms, all of them."""

import re
from pathlib import Path

LIBRARY = Path(__file__).parent.parent / "socrates"


def test_every_room_is_named_once():
    named = re.findall(r"^([a-z]+)/", (LIBRARY / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
