"""Scale parser: the valid answers to a question, found in its text; None where the text states none.

Covers: survey questions answered with a whole number, in SocSci210's forms (each pattern below says which) and in what
`rewrite.py` rewrites in these. Where there is an answer instruction ("Only return an integer from 1 to 5, nothing
else."), it and the question right before it are read, else the sentences that ask or tell how to answer. The persona,
the stimulus and earlier questions hold years, ages, prices and other people's scales, so they never count.

Whatever is in doubt gives None: a missing scale leaves the answer open, a wrong one forbids valid answers.

Patterns that are searched for bound what they may skip over, so that the time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

from socrates.data.scales import MAX_VALUES, Scale
from socrates.data.scales.missing import cut_missing
from socrates.data.scales.reasons import OPEN, UNSTATED, is_open, other_request
from socrates.data.scales.rewrite import any_of, plain_wording

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

    The form is `RANGE`, `NAMED` or `OPTIONS`, perhaps with `IN_QUESTION`; without a scale, why (`reasons.py`).
    """
    only = _ONLY.search(_instruction(_flat(text).translate(_PLAIN))[1])
    for wording in (str, plain_wording) if only else (plain_wording,):  # rewritten only where that is needed
        worded = wording(text)
        question, missing = cut_missing(question_text(worded).translate(_PLAIN))
        found, asked, is_amount = _find_values(question if missing else _flat(worded).translate(_PLAIN))
        anchors = found and not only and found[1] == NAMED and max(found[0]) - min(found[0]) >= len(found[0])
        if found and (IN_QUESTION in found[1] or not only) and (anchors or _leaves_out(found[0], [asked])):
            found = None  # "use 0 for never and 10 for always": perhaps there is something in between
        if found or is_amount:
            break
    if found is None and not only:
        found, asked, missing = _find_elsewhere(_flat(worded).translate(_PLAIN))
    values, form = found or ((), None)
    reason = other_request(asked)
    values = _in_steps(values, asked)
    if missing and len(values) <= MAX_VALUES:  # "99 = Refused. Only return 1, 2 or 99."
        values = tuple(value for value in values if value not in missing)
    if reason is None and 1 < len(values) <= MAX_VALUES:
        return _scale(values), form, missing
    return None, reason or (OPEN if is_open(asked) or found or is_amount else UNSTATED), missing


def _find_values(plain: str) -> tuple[_Found | None, str, bool]:
    """What the answer instruction states, or the question before it; what they say; whether it asks for an amount."""
    before, instruction, after = _instruction(plain)
    request, found = _read_request(after)
    last = before[_sentence_starts(before)[-1] :]
    if _leaves_bounds_to_question(request) and "?" not in last and _INSTRUCTION.match(last):
        before, instruction, after = _instruction(before)  # "Only return 1 or 2. Only return the number."
        request, found = _read_request(after)
    question = _hide_labels(before[_question_start(before) :])
    asked = request if found and _ONLY.search(instruction) else f"{question} {instruction} {request}".lower()
    is_amount = bool(request) and not _leaves_bounds_to_question(request)
    if found or is_amount or not instruction:
        return found, asked, is_amount
    found = _read_statement(_SENTENCE.sub("", request, count=1)) or _read_statement(question)
    return found and (found[0], found[1] + IN_QUESTION), asked, False


def _find_elsewhere(plain: str) -> tuple[_Found | None, str, frozenset[int]]:
    """The same where no "Only return …" says what counts: in the sentences that tell the reader to answer."""
    starts = [*_sentence_starts(plain), len(plain)]
    sentences, codes = zip(*(cut_missing(plain[a:b]) for a, b in pairwise(starts)), strict=True)
    shown = [_hide_labels(sentence).lower().strip() for sentence in sentences]
    questions = (i for i, told in enumerate(shown) if "?" in told and not _ASKS_AGAIN.match(told))
    last = max(questions, default=len(shown) - 1)
    tells = _telling(sentences, shown, last)
    read = {i: statement for i in tells if (statement := _read_statement(shown[i], _OWN_RANGES))}
    at = next(iter(read), last)
    found = read.get(at)
    near = [i for i in range(max(0, min(at, last) - 2), len(shown)) if i in tells or i > min(at, last)]
    missing = frozenset().union(*(codes[i] for i in near))
    asked = " ".join(shown[i] for i in near if i == last or not _OTHERS.search(shown[i]))
    contradicted = len({(min(values), max(values)) for values, _ in read.values()}) > 1
    if found and (contradicted or _leaves_out(found[0], [shown[i] for i in {*tells, *near}])):
        found = None
    return found and (found[0], found[1] + IN_QUESTION), asked, missing


def _telling(sentences: list[str], shown: list[str], last: int) -> dict[int, None]:
    """The last question and what tells how to answer it, or lists its options: their numbers, from the end."""
    tells: dict[int, None] = {}
    question, is_amount = shown[last], is_open(" ".join(shown[last:]))
    yes_or_no = _YES_OR_NO.match(question)
    ends = straight = True  # nothing but requests follows; no story lies between a sentence and the question
    for i in range(len(shown) - 1, -1, -1):
        told, requests = shown[i], _TELLS.match(shown[i])
        if _OPTIONS_LIST.match(told):
            labels = _ANSWER_WORDS.search(sentences[i].lower()) and "these" not in question
            closes = last < len(shown) - 1 and all(map(_CLOSER.match, shown[last + 1 :]))
            fits = i == last + 1 or closes or labels or _CHOICE.search(question) or (i and _TELLS.match(shown[i - 1]))
            tell = ends or (fits and not is_amount) or (i == 0 and last == 1 and "=" in told)
        elif i == last:
            tell = True
        elif _OTHERS.search(told) or (i < last and "?" in told):
            tell = False
        elif i > last or "?" not in question:
            tell = requests or _SCALE_FIRST.match(told) or _MAY.match(told)
        elif is_amount:
            tell = _ANSWER.match(told) or (set(_MAY_DO.findall(told)) & set(re.findall(r"\w+", question)))
        else:
            says = requests or (not yes_or_no and (_SCALE_FIRST.match(told) or _MAY.match(told)))
            tell = says and (straight or (requests and not yes_or_no))
        if tell:
            tells[i] = None
        straight = straight and (i >= last or bool(tell))
        ends = ends and bool(_ASKS_AGAIN.match(told) or ("?" not in told and (requests or _CLOSER.match(told))))
    return tells


def _leaves_out(values: _Values, sentences: list[str]) -> bool:
    """Whether a number that stands as a code does is none of the values: then a statement was read in part."""
    told = " ".join(told for told in sentences if not _OTHERS.search(told))
    others = {(span[0], span[-1]) for span in map(_span, _ANY_RANGE.finditer(told))} - {(min(values), max(values))}
    codes = [_number(code) for found in _CODE_LIKE.findall(told) for code in found if code]
    return bool(others or _NOT_ALL.search(told)) or any(code not in values for code in codes)


def _in_steps(values: _Values, asked: str) -> _Values:
    """The values that lie in the steps that are asked for; none where the range is no multiple of them."""
    step = _STEP.search(_UNITS.sub("", asked))
    if step is None or not isinstance(values, range) or values.step > 1 or len(values) < 2:
        return values
    size = _number(step["size"] or step["of"] or step["before"] or step["nearest"])
    low, high = values[0], values[-1]
    if step["multiple"]:
        low, high = -(-low // size) * size, high // size * size
    return range(low, high + 1, size) if size and (high - low) % size == 0 else ()


def question_text(text: str) -> str:
    """The outcome question with its answer instruction, white space normalised: it names the task.

    It starts where the text says that a question starts ("and then were asked: “…"), if that question runs up to the
    instruction, and else with the last sentence before the instruction. A sentence that only helps to answer
    ("Options: 1 = …", "I would . . .") takes the one before it along, and a request to use a scale right before the
    question belongs to it: the text holds all that `parse_scale` reads. A sentence that the question refers to ("What
    is your opinion of this practice?") cannot be told from a stimulus, and is left out.
    """
    flat = _flat(text)
    before, _, _ = _instruction(flat.translate(_PLAIN))
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
_BARE = rf"{_NOUN}|one of (?:these|the) (?:numbers|codes|options)\b"
_VERB = r"(?i:return|(?:respond|answer|reply)(?: with)?|choose|select|give|provide|enter|write|type)"
_INSTRUCTION = re.compile(
    # "Only return …"; in small letters only where a sentence turns to it, since a label may hold the words
    r"(?<!\w)(?:Only|ONLY|^only|(?:(?<=[.?!:])|(?<=[.?!:,] )|(?<=lease )|(?<=and )|(?<=then ))only) "
    rf"{_VERB}\b"
    # "Please answer with an integer …", at the start of a sentence
    rf"|(?:^|(?<=\n)|(?<=[.?!:] )|(?<=[.?!][\"'] ))(?i:please )?{_VERB}(?: only)?(?= (?:(?i:{_NOUN})|[\"']?-?\d))"
)
_ONLY = re.compile(r"(?i)^only\b")
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


def _instruction(plain: str) -> tuple[str, str, str]:
    """What stands before the last answer instruction, its first words ("Only return"), and what follows these."""
    last = max(_INSTRUCTION.finditer(plain), key=re.Match.start, default=None)
    if last is None:
        return plain, "", ""
    return plain[: last.start()].rstrip(), last[0], plain[last.end() :]


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
_REQUESTED_RANGE = re.compile(rf"(?:{_NOUN})?{_LEAD}{_RANGE}(?! ?(?:words|characters|sentences|lines)\b)")
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
    r"(?:^|(?<=[;,:.?!(] )|(?<=[;,(])|(?<=\bo[rf] )|(?<=\band )|(?<=\bwhere )|(?<=\bwith )|(?<= )(?=-?\d+ ?[=:]))"
    + _LABELLED
)
_FIRST_ITEM = re.compile(rf"[^.?!\d]{{0,150}}?(?<![\d.]){_LABELLED}")
_OTHERWISE = re.compile(rf"\b(?:otherwise|else),? (?:return )?({_INT})")
# "an integer, where 1 means X and 7 means Y", "a number (1 = X, 7 = Y)": here two labels may mark the ends of a scale
_NUMBER_THEN = re.compile(rf"{_NOUN}(?![^.?!\d]{{0,150}}\d+ (?:for|if)\b)|{_NOUN}[^.?!\d]*\b(?:where|with)\b")
# "1 or 2", "1, 2, 3, or 4", "one of the following numbers: 1, 2"
_NUMBERS = re.compile(
    rf"(?:{_NOUN})?(?:either|one of|the|following|integers|numbers|values|[:( ]){{0,9}}"
    rf"({_INT}(?:(?:,? or |,? and |, ){_INT})+)(?:\+| or more)?(?!,? (?:or |and )?-?\d)(?= ?(?:[.,;)\"']|$))"
)
# "Yes (1) or No (2)", "(1) Yes, (2) No"
_NUMBER_IN_BRACKETS = re.compile(r"(?<![\d~] )\((-?\d{1,3})\)")
# an instruction with a unit of its own asks for an amount, whatever scale the question has
_AMOUNT = re.compile(
    rf"[$%]|\b(?:{_UNIT}|dollar|cent|hour|day|week|month|year|money|cost|price|income|salary|age|people|adults|times"
    r"|steps|miles|how many|number of(?! your| (?:the|one|an?) (?:option|answer|choice|statement))|amount(?! of))\b"
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
    values = _with_dots(_sorted(texts), request)
    return values if len(values) > 1 else None


def _read_numbers(request: str) -> _Values | None:
    match = _NUMBERS.match(request)
    return match and _sorted(re.findall(_INT, match[1]))


def _leaves_bounds_to_question(request: str) -> bool:
    """Whether an instruction asks for "a number" and no more: it has no bound and no unit of its own."""
    asked = _SENTENCE.match(request)[0]
    return bool(re.match(_BARE, asked)) and not re.search(r"\d", asked) and not _AMOUNT.search(asked)


# --- what a question states ------------------------------------------------------------------------------------

_STATED_RANGES = (
    # "on a scale from 1 (label) to 5 (label)", "what number from 1 to 10"
    re.compile(rf"\b(?:scales?|integer|number|rating|score|values?) {_LEAD}{_RANGE}"),
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
# what tells the reader to answer, where there is no "Only return …"
_VERBS = (
    r"(?:rate|use|using|give|tell|indicate|answer|respond|reply|choose|select|pick|enter|mark|circle|say|type|write|move"
    r"|slide|return|output|think of|round|state|report|place|set|grade|score|name|express|evaluate|judge|estimate|tick"
    r"|show|guess|assign|rank|order|put|list|sort|arrange|drag|offer|send|lend|donate|bid|keep|pay|only|bitte|geben|sagen|bewerten|antworten|wählen|évaluez|donnez|choisissez|répondez|indiquez|notez"
    r"|veuillez|califique|seleccione|responda|indique|valor[ae]|elija|marque|classez|kreuzen|bringen|ordene)\b"
)
_TELLS = re.compile(rf"[\"'(]*(?:[\w' ]{{0,40}}[,:] ?)?(?:please |now |then |do not |por favor,? )*{_VERBS}")
_SCALE_FIRST = any_of(r"""
["']*(?:[\w' ]{0,40}[,:] )?(?:(?:on|auf|sur|en) (?:an?|the|einer|une|una)|with|if|where)\b[^.?!\d]{0,80}\d
[\w ]{0,20}\b(?:scale|range|(?:score|mark|grade|value|rating)s?)\b|.{0,80}请
[^?]{0,150}\b\d+ (?:means|is)\b[^?]{0,150}\d+ (?:means|is)\b
["'(]*(?:an? )?-?\d+["']? ?(?:=|means|is|stands|\(~\))|.{1,60} \(?\d\)? (?:to|-) .{1,60} \(\d+\)
""")
_ANSWER = re.compile(r".{0,60}\b(?:your|the) (?:answer|guess|estimate|response|choice)\b")
_CODE_LIKE = re.compile(  # "7. " at the start, "7 =", "7 (label)", "answer 7"
    r"(?:^|[.?!:] )[(\[]?(\d{1,3})[.)\]:](?= [^.?!]{0,200}(?:[.!]|$))"
    rf"|({_INT})(?= ?=| ?\(~\)|: ~| (?:for|if|means|meaning|represents|indicates|stands)\b)"
    rf"|\b(?:answer|enter|press|return|type|write|tick|mark) ({_INT})(?= ?(?:[.,;)]|if\b|for\b|$))"
)
_ANY_RANGE = re.compile(rf"(?:\bfrom |(?=\bbetween )|\(|\bscale (?:of )?)(?=(?:between )?[01]\b){_RANGE}")
_NOT_ALL = re.compile(
    r"\b(?:odd|prime) (?:num|int|amou|val)|\b(?:except|excluding|strictly|tens|hundreds|other than)\b"
)
_CLOSER = re.compile(
    r".{0,80}\b(?:answers?|options?|number|digit|integer|code|box|choice|one|réponse|opción|número|antwort|zahl|ziffer|chiffre)\b"
)
_ASKS_AGAIN = re.compile(r"(?:so,? )?(?:what(?:'s| is) )?your (?:\w+ )?(?:answer|choice|response)\b")
_MAY = re.compile(
    r".{0,200}\b(?:please|bitte|you(?:r| may| can| could| would)|must|ha(?:s|ve) to|may be|allowed|valid|accepts?)\b"
)
_MAY_DO = re.compile(r"\byou (?:may|can|could|must|have to) (?!be\b|do\b|get\b|have\b)(\w+)")
_YES_OR_NO = re.compile(r"[\"'(]*(?:do|does|did|is|are|was|were|would|will|should|can|could|has|have)\b")
_OTHERS = any_of(r"""
\b(?:rated|scored|answered|earlier|previous(?:ly)?|gave|(?:were|was) (?:asked|told)|had to|users|guests|participants)\b
\b(?:said|says|asks|averag(?:e (?:was|is|of|rating|score|answer|grade)|ed)|mean of|earn|imagine (?!.*\bladder))\b
""")
_OPTIONS_LIST = re.compile(r"-?\d+ (?:for|=) ~(?:;|$|\.)")
_LISTED = re.compile(rf"({_INT}) for ~")
_ANSWER_WORDS = re.compile(
    r"\b(?:not|never|always|often|(?:dis)?agree|very|much|like|good|bad|true|too|some)\b|\"(?:yes|no)\"|[不很非]"
)
_CHOICE = re.compile(r"\bwhich\b|\b(?:choose|pick|prefer|bet on)\b")
_NO_COUNT = r"(?! ?(?:people|persons|year|words|characters|sentences|letters|lines|o'clock|stars|cards))"
_FROM = r"(?:from (?:an? )?|(?=between ))"
_OWN_RANGES = (  # in a sentence that asks or tells how to answer
    *_STATED_RANGES,
    re.compile(
        rf"\b(?:{_VERBS}|(?:amount|prices?|wage|must|ha(?:s|ve) to|should|can|may|going|go|runs?|ranges?"
        rf"|choice|accepts?|numbered|(?:valid|allowed|possible|permitted)\b[\w ]{{0,20}}\b(?:are|is)"
        rf"|chance|likelihood|probability)\b)[^.?!;]{{0,120}}?[ ,]{_FROM}{_RANGE}{_NO_COUNT}"
    ),
    re.compile(rf"\b(?:use|enter|answer|respond with|choose|select|type):? {_RANGE}{_NO_COUNT}"),
    re.compile(  # "How …? (0-10)", "Enter your choice (1-4):"
        rf"\b(?:how\b|what\b|which\b|where\b|your\b|combien\b|wie\b|cuánt|{_VERBS})[^.]{{0,400}}"
        rf"\((?:from )?{_RANGE}(?: in steps [^()]{{1,30}}| [a-z]+)?"
        r"(?:[,;][^()]{0,60})?\)(?:[ .:?!\"']*$|(?<=percent\)))"
    ),
    re.compile(rf"(?:^|[,?(] ?)(?=[01]\b){_RANGE}(?: in steps|[).]*$)"),
    re.compile(
        rf"(?:^|[,?] |(?=[^?]{{0,60}}\?$)){_FROM}(?=(?:between )?-?[01]\b){_RANGE}(?: [a-z]+)?(?: ?[,:?]|$| in st)"
    ),
)
_UNITS = re.compile(r"\brepresent\w* [^.?!]{0,60}|\bwhere\b.*")  # "representing units of 100 dollars"
_STEP = any_of(r"""
\b(?:steps?|increments?|intervals?|schritten|pas|paliers|pasos) (?:of|von|de) [$£€]?(?P<size>\d[\d,]*)(?!\.\d)
(?P<multiple>\b(?:multiples? (?:of|de)|divisible by|vielfache von|múltiplos? de)) [$£€]?(?P<of>\d[\d,]*)
(?<![\w.,])[$£€]?(?P<before>\d[\d,]*)%?[ -](?:(?!in |of |with |by |and |on )[a-z]+[ -])?(?:steps|increments|intervals)\b
\bnearest (?P<nearest>\d+)
""")
_DOTS = re.compile(r"[,;] ?(?:\.\.\.|…)[,;]? (?:and )?[\"']?-?\d")
_FIRST_YEAR, _LAST_YEAR = 1900, 2100  # "rate the mayors from 2019 to 2021" is about years
# "Sad (1) to Glad (5)"
_LABEL_FIRST = re.compile(r"[\"']?[A-Z][\w' -]{0,60} \(\d{1,3}\)(?:,| to| or|;)")
_HELP = re.compile(
    r"[\"'(\[]*(?:(?:response |answer )?(?:options|choices|scale)|(?:please )?(?:use|answer|respond|reply))\b", re.I
)
_AID = re.compile(r"[\"'(\[]*(?:please )?(?:use|answer|respond|reply|rate|indicate|on an?)\b", re.I)


def _read_statement(text: str, patterns: tuple[re.Pattern[str], ...] = _STATED_RANGES) -> _Found | None:
    """The scale that a question states, the last one if there are several."""
    text = text.lower()
    ranges = [match for pattern in patterns for match in pattern.finditer(text) if not _about_years(match)]
    if ranges:
        return _span(max(ranges, key=lambda match: (match.start("low"), match.end()))), RANGE
    listed = _LISTED.findall(text)
    items = [match[1] for match in _ITEM.finditer(text) if match[2].strip() not in ("for", "if", "otherwise")]
    listed = items if len(items) > 3 and _OPTIONS_LIST.match(text) else listed
    values = _sorted(listed) if len(listed) > 1 else _fill(items) or _fill(_NUMBER_IN_BRACKETS.findall(text))
    if isinstance(values, range) and len(items) > 3 and len(items) < len(values):
        return None  # these codes, or all that lie between them?
    values = values and _with_dots(values, text)
    return values and (values, NAMED)


def _only_helps(sentence: str) -> bool:
    """Whether a sentence only states answers, or is a stem to complete ("I would …"), or an instruction."""
    if "?" in sentence:
        return False
    if sentence.rstrip("\"' \n").endswith(("…", "...", ". .")) or _INSTRUCTION.match(sentence):
        return True
    shown = _hide_labels(sentence)
    states_answers = _ITEM.match(shown) or _LABEL_FIRST.match(shown)
    return bool(states_answers or (_HELP.match(sentence) and _read_statement(shown) is not None))


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


def _with_dots(values: _Values, text: str) -> _Values:
    """With what "1 for never, 2 for rarely, ..., 5 for always" leaves out."""
    return range(values[0], values[-1] + 1) if values and _DOTS.search(text) else values


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
