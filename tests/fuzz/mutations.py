"""Mutations of a good file: bytes that are flipped, cut or put in; and of JSON its keys, values and nesting."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import islice
from random import Random
from typing import Any

BOM, LONG, DEEP = b"\xef\xbb\xbf", "x" * 1_000_000, 100_000
_MOST_PIECES = 500_000  # of a JSON text: some 5 MB
_TEXTS = ["", r"\u0000", r"\ud800", r"\u001b[31mred\u001b]0;title\u0007", r"\u009b31m", r"\u202elevel\r", "1", "=1+1"]
_TEXTS += ["../x", "([a-z_.0-9]+)+!", LONG]  # a pattern that never ends
_VALUES = ["0", "-1", "-0.0", "0.5", "1e308", "1e999", "5e-324", "1" + "0" * 400, "9" * 5000, "NaN", "-Infinity"]
_VALUES += ["true", "false", "null", "[]", "{}", "[null]", '{"a": 1}', "[" * DEEP + "]" * DEEP]
_VALUES += ['{"a":' * DEEP + "1" + "}" * DEEP, *(f'"{text}"' for text in _TEXTS)]
# What means something: to a decoder, a terminal, a chat template, a table, a question, a listing, a file of settings.
_TOKENS = ["\0", "\x1b[31m", "\x9b", "\udcff\udcfe", "\ud800", "\r", "\n\n", '"', "\\", "{", ",", "\ufeff", LONG]
_TOKENS += ["{{ 1 / 0 }}", "{{ 'x' * 4000000000 }}", "{{ 10 ** 10000000 }}", "{{ messages[9].content }}", "{% else %}"]
_TOKENS += ["{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "{{ strftime_now('') }}"]
_TOKENS += ["{{ raise_exception('\x1b[31mred') }}", "{{ ''.__class__.__mro__ }}", "{% include 'x' %}", "(" * 5000]
_TOKENS += ["age", "weight", "1e999", "-1", "nan", "=cmd|' /C calc'!A0", '"a\nb"', "“", "Only return", "1 to 7"]
_TOKENS += ["\0./my run/checkpoint-30\0", "\0socrates-end\0", "HF_TOKEN=x", "error: "]


def mutated(rng: Random, good: bytes, ending: str) -> bytes:
    """The content of a file with this name's ending, mutated; all that is chosen depends on ``rng`` alone."""
    content = good
    if ending == ".json":
        content = _mutated_json(rng, good)
    elif ending == ".jsonl":
        lines = good.splitlines(keepends=True)
        number = rng.randrange(len(lines))
        lines[number] = _mutated_json(rng, lines[number]) + b"\n" * rng.randrange(2)
        content = b"".join(lines)
    for _ in range(rng.choice((1, 1, 3)) if content == good or rng.random() < 0.1 else 0):
        start = rng.randrange(len(content) + 1)
        before, part, after = content[:start], content[start : start + rng.choice((1, 1, 8, 100))], content[start:]
        rest = after[len(part) :]
        flipped = bytes([part[0] ^ 1 << rng.randrange(8)]) + part[1:] if part else b""
        token = rng.choice(_TOKENS).encode(errors="surrogatepass")
        many = part * rng.choice((2, 5000))
        content = before + rng.choice([b"", rest, many + rest, flipped + rest, token + after, token + after])
    return content if rng.random() < 0.95 else BOM + content


def _mutated_json(rng: Random, good: bytes) -> bytes:
    """A JSON text with some of its keys or values mutated; in one of ten it is left alone."""
    value: dict[str, Any] = {"": json.loads(good)}
    raws: list[str] = []

    def raw(text: str) -> str:  # stands for what no Python value is written as
        raws.append(text)
        return f"<raw {len(raws) - 1}>"

    for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 1, 1, 2, 3))):
        (holder, key), how = _place(rng, value), rng.random()
        if how < 0.15 and holder is not value:
            del holder[key]
        elif how < 0.3 and isinstance(holder, dict) and key:
            name = raw(rng.choice([json.dumps(key), f'"{rng.choice(_TEXTS)}"']))
            holder[name] = holder[key] if rng.random() < 0.5 else holder.pop(key)  # twice, if it is the same
        elif how < 0.45:
            other, its = _place(rng, value)
            holder[key] = deepcopy(other[its]) if how < 0.4 else [holder[key]] * rng.choice((1, 2, 1500))
        else:
            holder[key] = raw(rng.choice(_VALUES))
    pieces = json.JSONEncoder(ensure_ascii=False).iterencode(value[""])
    text = "".join(islice(pieces, _MOST_PIECES))  # 1,500 times 1,500 would take longer to write than to read
    for number, what in enumerate(raws):
        text = text.replace(f'"<raw {number}>"', what, 1)
    return text.encode(errors="surrogatepass")


def _place(rng: Random, value: dict[str, Any]) -> tuple[Any, Any]:
    """A holder and its key or index, at any depth; what lies in a large part is no more likely for that."""
    holder, key = value, ""
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
        holder = holder[key]
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    return holder, key
