"""Missing answers: codes that a question states for "refused", "don't know", "not applicable", "skipped".

Such a code measures nothing: one 99 on a scale of 1 to 5 stretches the range by which all answers of a cell are
standardised. A number is one only if it is a code in common use and its whole label says so: "9 = Don't know whether
to agree" is an answer, and so is "0 = Not sure". Other stated codes that lie far from the rest are only pointed out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_CODE = r"(?:-(?:[1-9]|77|88|9+[6-9])|[789]|77+|88+|9+[6-9])(?![\w%]|[.,/]\d)"
CODES = re.compile(_CODE)  # those in common use
_SAYS = re.compile(
    r"\b(?:refus|declin|skip|dk\b|n a\b|unsure|unknown|inapplicable|missing|(?:rather|prefer|preferred) not"
    r"|verweiger|wei nicht|keine ang|ne sais pas|ne sait pas|no sabe|no contesta"
    r"|(?:not|non|no|dont|doesnt|didnt|cannot|cant) (?:want )?(?:to )?"
    r"(?:know|sure|remember|say|choose|appl|answer|respon|state|ask|available))"
)
_ALONE = (  # a label of these words says no more than that
    "a an and answer answered any applicable apply applies are asked available cannot cant choose decline declined did "
    "didnt dk do does doesnt dont has have i id if im inapplicable is it know me missing my n no non not of or prefer "
    "preferred question rather refusal refuse refused refuses refusing remember respond response say sure skip skipped "
    "stated that the they this to unknown unsure want was were would you youd your "
    "verweigert wei nicht ich keine angabe ne sais sait pas je no sabe contesta"
)
_WORDS = frozenset(_ALONE.split())
_NEXT = r"[;.?!]|$|,? ?(?:or |and |where )*[\"'(]*-?\d|,? (?:and )?nothing\b|,? (?:otherwise|only)\b"
_ITEM = re.compile(
    # 99 for 'Refused', 99 = refused, 8 if you don't know, 99 (Refused), (99) Refused
    rf"(?<![\w$#.,-])(?:\((?:where )?|[\"'])?(?P<code>{_CODE})[\"']?"
    r"(?: ?[=:.)—-] ?| (?:for|if|when|means|meaning|is|being|represents|indicates) | ?(?=[\"'(]))"
    rf"(?:([\"'])(?P<quoted>.{{1,120}}?)\2(?!\w)|\((?P<bracketed>[^()\d]{{1,120}})\)|(?P<bare>[^;.?!]{{1,120}}?)(?:\)|(?={_NEXT})))"
    # 'Refused' (99)
    rf"|(?:(?<=[,;:.?!(])|(?<=\bor)|(?<=\band)) ?(?P<before>[^,;:.?!()\d]{{1,80}}) \((?P<after>{_CODE})\)",
    re.I,
)


def cut_missing(question: str) -> tuple[str, frozenset[int]]:
    """A question without what it says of missing answers, and their codes; quotes and hyphens are straight ones."""
    codes, start = set(), 0
    while item := _ITEM.search(question, start):
        start = item.start() + 1
        if says_missing(item["quoted"] or item["bracketed"] or item["bare"] or item["before"]):
            codes.add(int(item["code"] or item["after"]))
            question = question[: item.start()] + question[item.end() :]
    return question, frozenset(codes)


def says_missing(label: str) -> bool:
    """Whether a label says no more than that nothing was answered: "Refused", "I don't know"."""
    words = re.sub(r"[^a-z]+", " ", re.sub("['’]", "", label.lower())).strip()
    return bool(_SAYS.search(words)) and _WORDS.issuperset(words.split())


def far_answers(scale: Sequence[int] | None) -> frozenset[int]:
    """Valid answers that lie further from the others, which are more, than twice these are wide: 99 of 1, 2, 3, 99."""
    if not scale or scale[-1] - scale[0] < len(scale):  # no gap, and as many as a million values
        return frozenset()
    gap, index = max((scale[i] - scale[i - 1], i) for i in range(1, len(scale)))
    few, many = sorted((scale[:index], scale[index:]), key=len)
    return frozenset(few) if len(few) < len(many) and gap > 2 * (many[-1] - many[0]) else frozenset()
