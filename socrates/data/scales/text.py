"""Scale parser: the valid answers to a question, found in its text; None where the text states none.

Covers: English survey questions answered with a whole number, in the forms that SocSci210 uses (each pattern below says
which). Only two places are read: the last answer instruction ("Only return an integer from 1 to 5, nothing else.") and,
where that says no more than "an integer", the question right before it. The persona, the stimulus and earlier
questions hold years, ages, prices and other people's scales, so they never count.

Does not cover: bounds in words ("from one to five"), numbers that are not whole, and "a 7-point scale", which does not
say where it starts. All of these give None: a missing scale leaves the answer open, a wrong one forbids valid answers.

Patterns that are searched for bound what they may skip over, so that the time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

from socrates.data.scales import MAX_VALUES, Scale
from socrates.data.scales.missing import cut_missing

RANGE, NAMED, OPTIONS = "from A to B", "A for X; B for Y", "A or B"  # the forms in which a text states a scale
IN_QUESTION = ", in the question"  # is added where the answer instruction itself states no scale


def parse_scale(text: str) -> Scale | None:
    """The valid answers of a question.

    Args:
        text: stimulus, question and answer instruction; the persona may stand in front and changes nothing.

    Returns:
        The scale, or None where the text states no bounds. Bounds written from high to low ("from 5 (best) to
        1 (worst)") are the same scale. A range of one value, or of more than `MAX_VALUES`, gives None. Codes of
        missing answers ("99 for 'Refused'", `missing.py`) are no valid answers.
    """
    return read_scale(text)[0]


@lru_cache(maxsize=8192)  # hundreds of people read the same text
def read_scale(text: str) -> tuple[Scale | None, str | None, frozenset[int]]:
    """As `parse_scale`, with the form in which the text states the scale, and the codes of missing answers.

    The form is `RANGE`, `NAMED` or `OPTIONS`, and `IN_QUESTION` may be added to it; None where there is no scale.
    """
    question, missing = cut_missing(question_text(text).translate(_PLAIN))
    values, form = _find_values(question if missing else _flat(text).translate(_PLAIN)) or ((), None)
    if missing and len(values) <= MAX_VALUES:  # "99 = Refused. Only return 1, 2 or 99."
        values = tuple(value for value in values if value not in missing)
    return (_scale(values), form, missing) if 1 < len(values) <= MAX_VALUES else (None, None, missing)


def _find_values(plain: str) -> _Found | None:
    before, after = _split(plain)
    request, found = _read_request(after)
    if _leaves_bounds_to_question(request) and _is_instruction(before[_sentence_starts(before)[-1] :]):
        before, after = _split(before)  # "Only return 1 or 2. Only return the number."
        request, found = _read_request(after)
    if found:
        return found
    if request and not _leaves_bounds_to_question(request):
        return None
    question = _hide_labels(before[_question_start(before) :])
    found = _read_statement(_SENTENCE.sub("", request, count=1)) or _read_statement(question)
    return found and (found[0], found[1] + IN_QUESTION)


def question_text(text: str) -> str:
    """The outcome question with its answer instruction, white space normalised: it names the task.

    It starts where the text says that a question starts ("and then were asked: “…"), if that question runs up to the
    instruction, and else with the last sentence before the instruction. A sentence that only helps to answer
    ("Options: 1 = …", "I would . . .") takes the one before it along, and a request to use a scale right before the
    question belongs to it: the text holds all that `parse_scale` reads. A sentence that the question refers to ("What
    is your opinion of this practice?") cannot be told from a stimulus, and is left out.
    """
    flat = _flat(text)
    before, _ = _split(flat.translate(_PLAIN))
    quoted = _start_of_quoted_question(before)
    start = _question_start(before) if quoted is None else quoted
    return " ".join(flat[start:].split())


# --- the parts of a text ---------------------------------------------------------------------------------------

# straight quotes and hyphens, character for character, so that positions stay
_PLAIN = str.maketrans({**dict.fromkeys("“”„‟", '"'), **dict.fromkeys("‘’‚‛", "'"), **dict.fromkeys("–−‐‑‒", "-")})

# what is asked for: "an integer", "a single whole number", "your answer as a number"
_NOUN = (
    r"(?:your (?:answer|response|rating|choice) as )?"
    r"(?:(?:an?|one|the|any|your|just|exactly|only) ){0,3}"
    r"(?:(?:single|whole|positive|integer|round|valid|corresponding|numeric|numerical|dollar) ){0,3}"
    r"(?:integer|number|digit|value|numeral|percentage|percent|amount|rating|score|answer|response)\b"
)
_VERB = r"(?i:return|(?:respond|answer|reply)(?: with)?|choose|select|give|provide|enter|write|type)"
_INSTRUCTION = re.compile(
    # "Only return …"; in small letters only where a sentence turns to it, since a label may hold the words
    r"(?<!\w)(?:Only|ONLY|^only|(?:(?<=[.?!:])|(?<=[.?!:,] )|(?<=lease )|(?<=and )|(?<=then ))only) "
    rf"{_VERB}\b"
    # "Please answer with an integer …", at the start of a sentence
    rf"|(?:^|(?<=\n)|(?<=[.?!:] )|(?<=[.?!][\"'] ))(?i:please )?{_VERB}(?: only)?(?= (?:(?i:{_NOUN})|[\"']?-?\d))"
)
_ASKED = re.compile(r"\b(?:asked|question): ?(?=[\"'])")  # … and then were asked: "
_BOUNDARY = re.compile(
    r"\n+|\b(?:asked|question): ?[\"']?"  # a new paragraph; the words that introduce a question
    r"|[.?!…][\"')\]]* (?=[\"'(\[]*[^\W\d_a-z])"  # the end of a sentence, if a capital letter follows
)
_ABBREVIATED = re.compile(r"\b(?:[A-Z]|[A-Z]\.[A-Z]|Mr|Mrs|Ms|Dr|St|Prof|Sen|Rep|Gov|Jr|Sr|vs|Inc|Co|Corp)\Z")
_QUESTION_WORD = re.compile(r"[\"'(\[]*(?:How|Wh[a-z]+|Do|Does|Did|Is|Are|Would|Will|Should|Can|Could|To|On|If)\b")
_SENTENCE = re.compile(r"[^.?!]*[.?!]?")


def _flat(text: str) -> str:
    """White space as one space, or as one line break between paragraphs."""
    return "\n".join(" ".join(part.split()) for part in re.split(r"\n[^\S\n]*\n\s*", text.strip()))


def _split(plain: str) -> tuple[str, str]:
    """What stands before the last answer instruction ("Only return …"), and what follows these words."""
    last = max(_INSTRUCTION.finditer(plain), key=re.Match.start, default=None)
    if last is None:
        return plain, ""
    return plain[: last.start()].rstrip(), plain[last.end() :]


def _sentence_starts(before: str) -> list[int]:
    starts = [0]
    for match in _BOUNDARY.finditer(before):
        head, tail = before[max(0, match.start() - 12) : match.start()], before[match.end() : match.end() + 12]
        abbreviated = match[0] == ". " and _ABBREVIATED.search(head)
        # "the U.S. Senate" goes on; "in the U.S. How …" and "than I. How …" do not
        if not abbreviated or (abbreviated[0].isupper() and _QUESTION_WORD.match(tail)):
            starts.append(match.end())
    return starts[:-1] if len(starts) > 1 and starts[-1] == len(before) else starts


def _start_of_quoted_question(before: str) -> int | None:
    """Where the last quoted question starts, if the text does not go on after it."""
    last = max(_ASKED.finditer(before), key=re.Match.start, default=None)
    if last is None or re.search(r"[.?!][\"'] \w", before[last.end() :]):
        return None
    return last.end() + 1


def _question_start(before: str) -> int:
    """Where the last sentence starts that does more than help to answer, or a request to use a scale before it."""
    starts = _sentence_starts(before)
    index, end = len(starts) - 1, len(before)
    while index > 0 and _only_helps(before[starts[index] : end]):
        index, end = index - 1, starts[index]
    request = before[starts[index - 1] : starts[index]] if index else ""
    if _AID.match(request) and _read_statement(_hide_labels(request)):
        index -= 1
    return starts[index]


# --- labels ----------------------------------------------------------------------------------------------------

_QUOTED_LABEL = re.compile(
    r"(=|\d ?:|\d(?= )|\b(?:for|if|means|meaning|being|is))( ?)([\"'])(?=\S)(?:.{1,300}?)(?<=\S)\3(?!\w)", re.I
)
_BRACKETED_LABEL = re.compile(r"(\d[\"']?) ?\((?!or \d)(?:[^()]|\([^()]{0,100}\)){1,300}\)")
_QUOTED_NUMBER = re.compile(r"([\"'])(-?\d{1,9})\1(?!\w)")


def _hide_labels(text: str) -> str:
    """Put "~" for each quoted or bracketed label, since labels hold numbers of their own ('18 to 24')."""
    text = _QUOTED_LABEL.sub(r"\1\2~", text.replace("\n", " "))
    return _QUOTED_NUMBER.sub(r"\2", _BRACKETED_LABEL.sub(r"\1 (~)", text))


# --- what an answer instruction asks for -----------------------------------------------------------------------

_DIGITS = r"(?:[-+]|minus |plus )?(?:\d{1,3}(?:,\d{3})+|\d{1,9})(?!\w|[.,/]\d)"
_INT = rf"(?<![\w$#.]){_DIGITS}(?! ?%)"
_BOUND = rf"(?<![\w$#.])\$?{_DIGITS}(?: ?%)?(?! ?(?:hundred|thousand|million|billion)\b)"
_LABEL = (
    r"(?: ?\(~\)| ~|, [a-z~][^,;.?!\d]{0,80},?"  # "1 (label)", "1 'label'", "1, label,"
    r"|(?P<said> ?(?:=|:|for|meaning|means|being) [^,;.?!]{1,120}?))?"  # "1 = label"
)
# "A to B", "A (label) to B", "A = label to B = label", "A-B", "between A and B"
_RANGE = (
    rf"(?P<between>between )?(?P<low>{_BOUND}){_LABEL}"
    r"(?(between)(?: and | to | ?[-—] ?)|(?: to | through | up to | ?[-—] ?))"
    rf"(?P<high>{_BOUND})(?(said)(?= ?(?:=|:|for|meaning|means|being)))"
)
_LEAD = r"(?:[ ,:(—]|(?:from|of|in|within|on|an?|the|scale|range|ranging|anywhere|value|rating|score)\b){0,12}"
_UNIT = r"(?:dollars|cents|euros|percent|percentage|points|degrees|seconds|minutes|hours|days|weeks|months|years)"

# "an integer from 1 to 5", "a number (1-7)", "an integer on a scale of 0 to 10", "0 to 100"
_REQUESTED_RANGE = re.compile(rf"(?:{_NOUN})?{_LEAD}{_RANGE}")
# "an integer representing minutes from 0 to 60", "… for your view, from 1 to 9", "… on a scale of 1 to 7", "… (0-100)"
_RANGE_AFTER_CLAUSE = re.compile(
    rf"{_NOUN}[^.;?!]{{0,150}}?"
    rf"(?:\bscale {_LEAD}|(?:,|\b{_UNIT}(?: per [a-z]+)?) (?:from |(?=between ))|\((?=-?[01]\b)){_RANGE}"
)
# "…, or 8 if you don't know" beside a range
_EXTRA = re.compile(rf"\bor ({_INT})(?= ?=| (?:for|if|means|meaning)\b)")
# "1 if you accept it, up to 4 if …"
_UP_TO = re.compile(rf"({_INT}) (?:if|for|=|means) [^;.?!]{{1,200}}?,? up to ({_INT})")
# one of several: "1 for X;", "or 2 if Y", "3 = Z", "4: W", "5 (label)", "6 - V", "where 7 means U", "0 otherwise"
_LABELLED = (
    rf"({_INT})( ?=|:(?= | ?\D)| ?\(~\)| - (?=[a-z~])"
    r"| (?:for|if|otherwise|means|meaning|being|is|represents|indicates)\b)"
)
_ITEM = re.compile(
    r"(?:^|(?<=[;,:.?!(] )|(?<=[;,(])|(?<=\bor )|(?<=\band )|(?<=\bwhere )|(?<=\bwith )|(?<= )(?=-?\d+ ?[=:]))"
    + _LABELLED
)
_FIRST_ITEM = re.compile(rf"[^.?!\d]{{0,150}}?(?<![\d.]){_LABELLED}")
_OTHERWISE = re.compile(rf"\b(?:otherwise|else),? (?:return )?({_INT})")
# "an integer, where 1 means X and 7 means Y", "a number (1 = X, 7 = Y)": here two labels may mark the ends of a scale
_NUMBER_THEN = re.compile(rf"{_NOUN}(?![^.?!\d]{{0,150}}\d+ (?:for|if)\b)|{_NOUN}[^.?!\d]*\b(?:where|with)\b")
# "1 or 2", "1, 2, 3, or 4", "one of the following numbers: 1, 2"
_NUMBERS = re.compile(
    rf"(?:{_NOUN})?(?:either|one of|the|following|integers|numbers|values|[:( ]){{0,9}}"
    rf"({_INT}(?:(?:,? or |,? and |, ){_INT})+)(?= ?(?:[.,;)\"']|$))"
)
# "Yes (1) or No (2)", "(1) Yes, (2) No"
_NUMBER_IN_BRACKETS = re.compile(r"(?<![\d~] )\((-?\d{1,3})\)")
# an instruction with a unit of its own asks for an amount, whatever scale the question has
_AMOUNT = re.compile(
    rf"[$%]|\b(?:{_UNIT}|dollar|cent|hour|day|week|month|year|money|cost|price|income|salary|age|people|adults|times"
    r"|steps|miles|how many|number of(?! your)|amount(?! of))\b"
)


_Values = range | tuple[int, ...]
_Found = tuple[_Values, str]  # the values, and the form in which they are stated


@lru_cache(maxsize=1024)  # thousands of rows end in the same words
def _read_request(after: str) -> tuple[str, _Found | None]:
    """What an instruction asks for ("an integer from …"), in small letters and without labels; what that states."""
    request = _hide_labels(after).lower().lstrip(" :,")
    for read, form in ((_read_range, RANGE), (_read_up_to, NAMED), (_read_choices, NAMED), (_read_numbers, OPTIONS)):
        values = read(request)
        if values is not None:
            return request, (values, form)
    return request, None


def _read_range(request: str) -> _Values | None:
    match = _REQUESTED_RANGE.match(request) or _RANGE_AFTER_CLAUSE.match(request)
    if match is None:
        return None
    values = _span(match)
    rest = re.split(r"\b(?:where|with)\b", request[match.end() :], maxsplit=1)[0]
    extra = _sorted(_EXTRA.findall(rest))
    return tuple(sorted({*values, *extra})) if extra and len(values) <= MAX_VALUES else values


def _read_up_to(request: str) -> _Values | None:
    match = _UP_TO.match(request)
    return match and range(_number(match[1]), _number(match[2]) + 1)


def _read_choices(request: str) -> _Values | None:
    """The numbers that are offered one by one: exactly these, gaps or not, unless they label the ends of a scale."""
    if first := _FIRST_ITEM.match(request):
        others = [match[1] for match in _ITEM.finditer(request, first.end())]
        texts = [first[1], *others, *_OTHERWISE.findall(request)]
    else:
        texts = _NUMBER_IN_BRACKETS.findall(request)
    if _NUMBER_THEN.match(request):
        return _fill(texts)
    values = _sorted(texts)
    return values if len(values) > 1 else None


def _read_numbers(request: str) -> _Values | None:
    match = _NUMBERS.match(request)
    return match and _sorted(re.findall(_INT, match[1]))


def _leaves_bounds_to_question(request: str) -> bool:
    """Whether an instruction asks for "a number" and no more: it has no bound and no unit of its own."""
    asked = _SENTENCE.match(request)[0]
    return bool(re.match(_NOUN, asked)) and not re.search(r"\d", asked) and not _AMOUNT.search(asked)


# --- what a question states ------------------------------------------------------------------------------------

_STATED_RANGES = (
    # "on a scale from 1 (label) to 5 (label)", "what number from 1 to 10"
    re.compile(rf"\b(?:scales?|integer|number|rating|score|value) {_LEAD}{_RANGE}"),
    # "on a 1-7 scale", "on a 0 to 10 point scale"
    re.compile(rf"(?<=\ba ){_RANGE}(?:[ -]point)?[ -](?:rating )?scale\b"),
    # "rate the house from 1 to 10"
    re.compile(
        rf"\b(?:rate|score|answer|respond)\b[^.?!;]{{0,120}}? (?:from |(?=between )){_RANGE}"
        r"(?! ?(?:dollar|hour|day|week|month|year|people|percent))"
    ),
    # "1 (label) to 5 (label)"
    re.compile(rf"(?P<low>{_INT}) \(~\) (?:to|and) (?P<high>{_INT}) \(~\)"),
)
_FIRST_YEAR, _LAST_YEAR = 1900, 2100  # "rate the mayors from 2019 to 2021" is about years
# "Sad (1) to Glad (5)"
_LABEL_FIRST = re.compile(r"[\"']?[A-Z][\w' -]{0,60} \(\d{1,3}\)(?:,| to| or|;)")
_HELP = re.compile(
    r"[\"'(\[]*(?:(?:response |answer )?(?:options|choices|scale)|(?:please )?(?:use|answer|respond|reply))\b", re.I
)
_AID = re.compile(r"[\"'(\[]*(?:please )?(?:use|answer|respond|reply|rate|indicate|on an?)\b", re.I)


def _read_statement(text: str) -> _Found | None:
    """The scale that a question states, the last one if there are several."""
    text = text.lower()
    ranges = [match for pattern in _STATED_RANGES for match in pattern.finditer(text) if not _about_years(match)]
    if ranges:
        return _span(max(ranges, key=lambda match: match.start("low"))), RANGE
    items = [match[1] for match in _ITEM.finditer(text) if match[2].strip() not in ("for", "if", "otherwise")]
    values = _fill(items) or _fill(_NUMBER_IN_BRACKETS.findall(text))
    return values and (values, NAMED)


def _only_helps(sentence: str) -> bool:
    """Whether a sentence only states answers, or is a stem to complete ("I would …"), or an instruction."""
    if "?" in sentence:
        return False
    if sentence.rstrip("\"' \n").endswith(("…", "...", ". .")) or _is_instruction(sentence):
        return True
    shown = _hide_labels(sentence)
    states_answers = _ITEM.match(shown) or _LABEL_FIRST.match(shown)
    return bool(states_answers or (_HELP.match(sentence) and _read_statement(shown) is not None))


def _is_instruction(sentence: str) -> bool:
    return "?" not in sentence and _INSTRUCTION.match(sentence) is not None


def _about_years(match: re.Match[str]) -> bool:
    years = all(_FIRST_YEAR <= _number(match[name]) <= _LAST_YEAR for name in ("low", "high"))
    return years and "scale" not in match[0]


# --- numbers ---------------------------------------------------------------------------------------------------


def _fill(texts: Iterable[str]) -> _Values | None:
    """The values behind labelled numbers: two, or evenly spaced ones, mark a whole range (1 … 7; 0, 50, 100)."""
    values = _sorted(texts)
    if len(values) < 2:
        return None
    evenly = len({b - a for a, b in pairwise(values)}) == 1
    return range(values[0], values[-1] + 1) if evenly else values


def _span(match: re.Match[str]) -> range:
    ends = _sorted((match["low"], match["high"]))
    return range(ends[0], ends[-1] + 1)


def _sorted(texts: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted({_number(text) for text in texts}))


def _number(text: str) -> int:
    return int(re.sub(r"[$,%\s+]|plus", "", text).replace("minus", "-"))


@lru_cache(maxsize=1024)  # one object for all rows of a scale: a row's own tuple would take 4 MB for 0 to 100000
def _scale(values: _Values) -> Scale:
    return Scale(tuple(values))
