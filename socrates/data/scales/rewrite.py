"""Other people's wordings of a scale, rewritten in those that `text.py` reads.

An option list becomes `1 for "Yes"; 2 for "No"`, a row of numbers "from 1 to 5", and what German, French, Spanish and
Chinese instructions say about numbers the same in English. Stimuli may be rewritten too: `text.py` says what counts.
"""

from __future__ import annotations

import re
from itertools import pairwise

_SIGNS = {0xFF01 + i: chr(0x21 + i) for i in range(94)} | {0xFF1F: "? ", 0x3002: ". ", 0x3001: ", "}  # full width
_SIGNS |= dict.fromkeys(map(ord, "¿¡"), "") | dict.fromkeys(map(ord, "–−‐‑‒"), "-")

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_DIGITS = {word: i for i, word in enumerate(_WORDS)} | {"fifteen": 15, "twenty": 20, "fifty": 50, "hundred": 100}
_WORD = rf"(?:(?:a |one )?hundred|{'|'.join(_DIGITS)})"
_BRACKETS = r"(?: ?\([^()\n]{1,80}\))?"
_IN_WORDS = re.compile(  # "from one (bad) to five", "where one is …", "(one)", "one) …", "one, two or three"
    rf"\b(?:from|between|of) {_WORD}{_BRACKETS} (?:up )?(?:to|and|through) {_WORD}\b|\({_WORD}\)|\b{_WORD}\)"
    rf"|\b(?:least|most|than) {_WORD}\b|(?<=[a-z,] ){_WORD} (?=\()|\band {_WORD}(?= the (?:high|max))"
    rf"|\b{_WORD}(?:, {_WORD}){{1,9}},? or {_WORD}\b"
    rf"|(?:\b(?:where|and|with)|[,;:]) {_WORD} (?=(?:is|means?|meaning|being|stands|represents|for)\b)",
    re.I,
)
_ROW = re.compile(  # "0 / 1 / 2 / 3 or more", "00 01 02 03", "0, 25, 50, 75 or 100", "0, 10, ..., 100"
    r"(?<!return )(?<![\w.,$%/-])(?:\d{1,4}(?: ?[/-] ?|,? (?:or|and) |, | +)(?:(?:\.\.\.|…)(?:, | +))?){2,100}\d{1,4}"
    r"(?![\w%/]|[.,]\d)(?: or (?:more|over)\b|\+)?"
)

_N = r"(?:\d{1,3}(?:,\d{3})+|\d{1,9})(?!\d|[.,]\d)"
_SIGNED = rf"(?:(?<![\w.,])[-+])?(?<![\d.,]){_N}"
_MONEY = r"(?:[$£€¥] ?)?"
_GAP = r"[^.?!\n\d]{0,30}"
_REWRITINGS = rf"""
(?<!\w)["'“”‘’„](-?\d{{1,4}})["'“”‘’](?!\w) => \1
({_SIGNED}) ?(?:≤|<=) ?\w+ ?(?:≤|<=) ?({_SIGNED}) => from \1 to \2
\beven (?=(?:whole )?(?:number|integer|amount)) => multiple of 2 -\x20
({_SIGNED}{_BRACKETS}),? (?:through|via) {_SIGNED} ?\([^()\n]{{1,80}}\),? (?=to {_SIGNED} ?\() => \1\x20
({_SIGNED}) at the (?:bottom|top|left|right|low\w*|high\w*)(?: end)? (?=to {_SIGNED}) => \1\x20
« ?([^«»\n]{{1,80}}?) ?» => "\1"
(?<=[\u4e00-\u9fff])(?=[-\d])|(?<=\d)(?=[\u4e00-\u9fff]) => \x20
\b(?:skala|échelle|escala|scale:)(?!\w) => scale
\b(?:von|del?|da) ({_SIGNED}{_BRACKETS}) (?:bis|à|al?)(?: zu)? (?={_SIGNED}) => from \1 to\x20
\b(?:zwischen|entre) ({_SIGNED}{_BRACKETS}) (?:und|et|y) (?={_SIGNED}) => between \1 and\x20
(?:请用|请在|从|在)? ?({_SIGNED}) ?(?:分 ?)?(?:到|至|~) ?({_SIGNED}) => 请 rate from \1 to \2
(?<=\d) ?(?:分 ?)?(?:表示|代表|意味着|是|为)|(?<=\d) ?分(?=[最非很]) => \x20means\x20
(?<=\d) (?:bedeutet|heißt|steht für|entspricht|signifie|veut dire|correspond à|significa|equivale a)\b => \x20means
(?<=\d)(["']?) (?:to (?:represent|indicate|mean)|(?:to )?stands? for)\b => \1 means
\b(?:if|use|using|with|let|an?|the number) (["']?\d+["']?) (?=(?:means|is)\b) => where \1\x20
(?<=[.?!] )(?:where )?(?=["']?\d+["']? (?:means|is)\b) => Where\x20
\b(?:et|und|y) (?=["']?\d+["']? ) => and\x20
\band (\d+),? (?:for )?(?=["'“‘„]) => and \1 means\x20
(\d - [^\d…\n]{{1,60}}?) ?(?:…|\.{{3}}) ?(?=\d+ - ) => \1,\x20
(?<=\)) ?/ ?(?=\d)|(?<=\d) (?=\(-?\d+ ?=) => ,\x20
(?<=[(;,?.:])( ?)([^\W\d]+(?:[ '’][^\W\d]+){{0,4}}) = (-?\d{{1,3}})(?=[,;).]|$) => \1\3 = \2
\((?:= ?|\+|(?:press|type|enter|say|answer|code) )(-?\d{{1,3}})\) => (\1)
\b(if you [^,.?!;\n\d]{{1,80}}), (?:please )?(?:enter|type|answer|write|press|use) (\d+) => enter \2 \1
(?<=[;,] )(?:and |or )?(?:enter|type) (?=\d+ (?:if|for) ) => \x20
(\bif [^.?!;\n]{{1,80}})\. enter (?=\d+ if ) => \1;\x20
\b(?:press|say|mark|put|code|use|using)(?= ["']?\d)|\b(?:code|mark|give) your answer:(?= \d) => enter
\[([^][\n]{{1,100}})\] => (\1)
 ?\((?!\W?[\d,]+[ €%]*(?:-|to))([^()\n=]{{0,60}}\b(?:step|incre|multi|d[eé]ci|nachk|integ)\w+[^()\n=]{{0,60}})\) => , \1
{_MONEY}(?<![\w.,-])({_N})(?: ?[£€])?( ?- ?| (?:to|up to|and|or above) ){_MONEY}({_N})(?: ?[£€])? => \1\2\3
\b(?:at least|minimum|below|low(?:est)?|(?:no|not|not be|cannot be) (?:less|fewer|lower|smaller) than)\b\
{_GAP}?{_MONEY}({_N}){_GAP}\b(?:at most|maximum|above|high(?:est)?|(?:no|not|or) (?:more|higher|greater|larger) than)\b\
{_GAP}?{_MONEY}({_N}) => must be between \1 and \2
\b({_N}) being the (?:low|min|small){_GAP} and ({_N})(?: being)? the (?:high|max|larg)\w* => must be between \1 and \2
"""
_TABLE = [line.split(" => ") for line in _REWRITINGS.replace("\\\n", "").strip().split("\n")]
_TABLE = [(re.compile(pattern, re.I), by.replace("\\x20", " ")) for pattern, by in _TABLE]

_OPTION = re.compile(  # "1. Yes", "1 - Yes", "(1) Yes", "[1] = Yes", "1 Yes"
    r"(?P<open>[(\[]?)(?P<code>-?\d{1,3})(?:(?P<sign>[)\]](?: ?[=:-](?= ))?|[.:](?=\s)| ?=| ?-(?= ))|(?=[ \t]+[^\W\d]))"
    r"[ \t]*(?P<label>\S.*)"
)
_LINE = re.sub(r"\?P<\w+>", "?:", _OPTION.pattern)
_LIST = re.compile(rf"^[ \t]*+{_LINE}(?:\n\s*+{_LINE})+$", re.M)
_INLINE = re.compile(
    r"(?<!answer )(?<!enter )(?<!press )(?<!choose )(?<!option )(?<!number )(?<!than )(?<!to )"
    r"(?<=\s)(?=\(?\d{1,2}\) |\[\d{1,2}\] |\d{1,2}[.:] (?=\S)|\d [A-Z][a-z])"
)  # where an option starts in a line
_END = re.compile(r"[.?!](?= +[^\W\d_a-z])|$")


def any_of(patterns: str) -> re.Pattern[str]:
    """One pattern of several, a line each; one that ends in a backslash goes on in the next."""
    return re.compile("|".join(patterns.replace("\\\n", "").strip().split("\n")))


def plain_wording(text: str) -> str:
    """A text in which scales are worded as `text.py` reads them."""
    text = "\n".join(map(_split_line, text.translate(_SIGNS).split("\n")))
    text = _IN_WORDS.sub(_digits, _LIST.sub(_option_list, text))
    for pattern, by in _TABLE:
        text = pattern.sub(by, text)
    return _ROW.sub(_range, text)


def _digits(match: re.Match[str]) -> str:
    return re.sub(rf"\b{_WORD}\b", lambda word: str(_DIGITS[word[0].lower().split()[-1]]), match[0], flags=re.I)


def _range(row: re.Match[str]) -> str:
    """Numbers in equal steps, as a range; those that stand between two labels, or to be ticked, as a request."""
    values = [int(number) for number in re.findall(r"\d+", row[0])]
    steps = {b - a for a, b in pairwise(values[:-1] if "." in row[0] else values)}
    step = min(steps)
    alone = re.match(r"\d+(?: +| ?- ?)\d", row[0])
    starts = values[0] in (0, 1, step) or (len(values) > 4 and not alone)
    fits = len(steps) == 1 and step > 0 and starts and (values[-1] - values[0]) % step == 0
    if not fits or (alone and len(values) < 4):
        return row[0]
    shown = f"from {values[0]} to {values[-1]}" + (f" in steps of {step}" if step > 1 else "")
    return f". Answer {shown}. " if alone else shown


def _split_line(line: str) -> str:
    """A line with several options as a line each; what follows the last one's sentence is a line, too."""
    starts = [match.start() for match in _INLINE.finditer(line)]
    if len(starts) + bool(_OPTION.match(line)) < 2:
        return line
    bounds = [0, *starts, _END.search(line, starts[-1] + 4).end(), len(line)]
    return "\n".join(line[a:b] for a, b in pairwise(bounds) if line[a:b].strip())


def _option_list(lines: re.Match[str]) -> str:
    """Options, one a line, as a paragraph of one sentence: with "=" they may label the ends of a scale."""
    options = list(_OPTION.finditer(lines[0]))
    style, end = options[0]["open"], 1
    for before, option in pairwise(options):
        codes = int(before["code"]), int(option["code"])
        apart = "\n" in lines[0][before.end() : option.start()].strip(" \t")[1:]
        if (option["open"], option["sign"]) != (style, options[0]["sign"]) or (apart and codes[1] - codes[0] > 1):
            break
        end += 1
    codes = [int(option["code"]) for option in options[:end]]
    labels = [re.sub(r"[\".!…:;]+(?=\W|$)", ",", option["label"]).strip("\t ,") for option in options[:end]]
    up = [code for code in codes if code >= 0] if codes[0] >= 0 else codes
    starts = min(up[0], up[-1]) < 2 or (len(up) > 3 and "=" in lines[0])
    ordered = up in (sorted({*up}), [*range(up[0], up[-1] - 1, -1)])
    if end < 2 or not starts or not ordered or "?" in "".join(labels):
        return lines[0]
    sign = "=" if "=" in (options[0]["sign"] or "") and not {"yes", "no"} & {*map(str.lower, labels)} else "for"
    shown = "; ".join(f'{code} {sign} "{label}"' for code, label in zip(codes, labels, strict=True))
    return f"\n\n{shown}.\n\n{lines[0][options[end - 1].end() :]}"
