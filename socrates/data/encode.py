r"""Prompts to token ids, many times as fast as one by one: a line or word that came before is not tokenized again.

Rows of a survey repeat each other: the persona's lines, the instruction sentence, what all people of a condition read,
and in new text most words. A prompt is therefore cut where its tokens cannot reach across, and only pieces that are
new go through the tokenizer. It is cut between a line break and a visible ASCII character (a line), and before a space
that an ASCII letter follows (a word).

Why the pieces' tokens are the whole's: byte-level BPE never merges across the matches of the pre-tokenizer's pattern,
and in the pattern that Qwen2 and Llama 3 share (`_PATTERN`) a match ends and the next begins at every such place.
After a line break: what may follow it within a match is white space, and `\s*[\r\n]+` takes all of a run that ends in
a line break. Before a space and a letter: the second alternative takes these two together, and no match that begins
earlier takes the space, since `\s+(?!\S)` leaves it and the others hold no white space after their first character
but line breaks. What is right of the place does not change how the pattern matches left of it: the end of the text
counts there as white space does. NFC does not compose a space or a visible ASCII character with what is to its left.
An added token without white space cannot lie across a place; but it ends the stretch of text that the pattern sees, so
none may begin with a letter: where it stood after a space, the white space before it would be one match with that.
`_is_separable` recognises exactly such tokenizers; all others get their prompts whole.
"""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from socrates.config import PromptSettings
from socrates.errors import SocratesError
from socrates.model.chat import answer_token_ids, end_of_turn_id, prompt_frame, prompt_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTES_A_TOKEN = 4  # ids are int32
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LINE_ENDS = re.compile(r"\n(?=[!-~])")
_LETTER = re.compile("[A-Za-z]")
_WORD_ENDS = re.compile(rf" (?={_LETTER.pattern})")


class PromptEncoder:
    """Prompts and answers to token ids, int32 in the machine's order; remembers what it has tokenized, up to a bound.

    Attributes:
        encode_answer: a bare integer as `answer_token_ids` gives it, and the end of the turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: PromptSettings | None = None) -> None:
        self._tokenizer, self._settings = tokenizer, settings
        self._backend = Tokenizer.from_str(tokenizer_json(tokenizer))
        frame = prompt_frame(tokenizer, settings)
        self._frame = frame if _is_separable(json.loads(self._backend.to_str())) else None  # None: prompts stay whole
        self._end_id = end_of_turn_id(tokenizer)
        self._line_ids = lru_cache(10_000)(self._encode_line)
        self._word_ids = lru_cache(100_000)(self._encode_word)
        self.encode_answer = lru_cache(100_000)(self._encode_answer)

    def encode(self, prompt: str) -> bytes:
        """The token ids of a prompt, exactly as `prompt_token_ids` gives them."""
        if self._frame is None:
            return self.encode_all([prompt])[0]
        before, after = self._frame
        *lines, last = _LINE_ENDS.split(f"{before}{prompt}{after}")  # takes the line break before each place away
        return b"".join([self._line_ids(line + "\n") for line in lines]) + self._line_ids(last)

    def encode_all(self, prompts: Sequence[str]) -> list[bytes]:
        """As `encode`, of each; where prompts stay whole, much faster."""
        if self._frame is None:
            return [_as_bytes(ids) for ids in prompt_token_ids(self._tokenizer, prompts, self._settings)]
        return [self.encode(prompt) for prompt in prompts]

    def _encode_line(self, line: str) -> bytes:
        first, *words = _WORD_ENDS.split(line)  # takes the space before each word away
        return self._word_ids(first) + b"".join([self._word_ids(" " + word) for word in words])

    def _encode_word(self, word: str) -> bytes:
        return _as_bytes(self._backend.encode(word, add_special_tokens=False).ids)

    def _encode_answer(self, value: int) -> bytes:
        return _as_bytes([*answer_token_ids(self._tokenizer, value), self._end_id])


def tokenizer_json(tokenizer: PreTrainedTokenizerBase) -> str:
    """The library's tokenizer, without the padding and truncation that an earlier call may have left in it.

    Raises:
        SocratesError: it is one of those that are written in Python ("slow").
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise SocratesError(
            f"{tokenizer.name_or_path}: has no fast tokenizer (tokenizer.json); use a model that has one"
        )
    value = json.loads(backend.to_str())
    return json.dumps(value | {"padding": None, "truncation": None}, ensure_ascii=False)


def _is_separable(tokenizer: dict[str, Any]) -> bool:
    """Whether a text may be cut into its lines and words: see the module's docstring."""
    model, normalizer = tokenizer["model"], tokenizer["normalizer"]
    steps = (tokenizer["pre_tokenizer"] or {}).get("pretokenizers", [])
    return (
        model["type"] == "BPE"
        and not model.get("dropout")
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and (normalizer is None or normalizer == {"type": "NFC"})
        and [step["type"] for step in steps] == ["Split", "ByteLevel"]
        and (steps[0]["behavior"], steps[0]["invert"]) == ("Isolated", False)
        and re.sub(r"\\p\{N\}\{1,\d\}", r"\\p{N}", steps[0]["pattern"].get("Regex", ""), count=1) == _PATTERN
        and (steps[1]["add_prefix_space"], steps[1]["use_regex"]) == (False, False)
        and not any(map(_reaches_across, tokenizer["added_tokens"]))
    )


def _reaches_across(token: dict[str, Any]) -> bool:
    """Whether an added token may lie across a cut, or hide the letter that a word was cut before."""
    text = unicodedata.normalize("NFD", token["content"])  # an "é" may stand in the prompt as an "e" and its accent
    return bool(
        token["lstrip"] or token["rstrip"] or token["single_word"] or re.search(r"\s", text) or _LETTER.match(text)
    )


def _as_bytes(ids: Sequence[int]) -> bytes:
    return array("i", ids).tobytes()
