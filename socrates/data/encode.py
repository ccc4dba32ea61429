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
`_is_separable` recognises exactly such tokenizers; all others get their prompts whole. Besides, `tokenize.py` compares
some rows of every batch with the way that evaluation takes.
"""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

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
    """Prompts to token ids, as `prompt_token_ids` gives them; made by `make_encoder`.

    Attributes:
        tokenizer: the model's.
        system_message: None for none.
        frame: what the chat template puts before and after a prompt; None: prompts are not cut.
        remembered: pieces whose ids are kept in memory, about; most are words.
        encode_answer: a bare integer as `answer_token_ids` gives it, and the end of the turn; int32 likewise.
    """

    remembered = 100_000

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, system_message: str | None, frame: tuple[str, str] | None
    ) -> None:
        self.tokenizer, self.system_message, self.frame = tokenizer, system_message, frame
        self._backend = Tokenizer.from_str(tokenizer_json(tokenizer)) if frame else None
        self._pieces: dict[str, bytes] = {}
        self.encode_answer = lru_cache(100_000)(self._encode_answer)

    def encode(self, prompts: Sequence[str]) -> list[bytes]:
        """The token ids of each prompt, int32 in the machine's order."""
        if self.frame is None:
            return [_as_bytes(ids) for ids in prompt_token_ids(self.tokenizer, prompts, self.system_message)]
        before, after = self.frame
        texts = [_LINE_ENDS.split(f"{before}{prompt}{after}") for prompt in prompts]
        # All but a text's last line end in the line break that the split has taken away.
        known = self._ids_of({line + "\n" for lines in texts for line in lines[:-1]} | {lines[-1] for lines in texts})
        return [b"".join([known[line + "\n"] for line in lines[:-1]]) + known[lines[-1]] for lines in texts]

    def _encode_answer(self, value: int) -> bytes:
        return _as_bytes([*answer_token_ids(self.tokenizer, value), end_of_turn_id(self.tokenizer)])

    def _ids_of(self, lines: Iterable[str]) -> dict[str, bytes]:
        """The ids of each line, from memory or from its words."""
        if len(self._pieces) > self.remembered:
            self._pieces.clear()
        new = {line: _words_of(line) for line in lines if line not in self._pieces}
        words = sorted({word for words in new.values() for word in words if word not in self._pieces})
        for word, encoding in zip(words, self._backend.encode_batch_fast(words, add_special_tokens=False), strict=True):
            self._pieces[word] = _as_bytes(encoding.ids)
        for line, words in new.items():
            if len(words) > 1:
                self._pieces[line] = b"".join([self._pieces[word] for word in words])
        return self._pieces


def make_encoder(tokenizer: PreTrainedTokenizerBase, system_message: str | None) -> PromptEncoder:
    """The fastest encoder that gives exactly the ids of `prompt_token_ids` for every prompt."""
    frame = prompt_frame(tokenizer, system_message)
    separable = frame is not None and _is_separable(json.loads(tokenizer_json(tokenizer)))
    return PromptEncoder(tokenizer, system_message, frame if separable else None)


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


def _words_of(line: str) -> list[str]:
    first, *rest = _WORD_ENDS.split(line)
    words = [" " + word for word in rest]  # the split has taken the space away
    return [first, *words] if first or not words else words


def _as_bytes(ids: Sequence[int]) -> bytes:
    return array("i", ids).tobytes()
