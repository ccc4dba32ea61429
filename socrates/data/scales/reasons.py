"""Why a text states no scale: what it asks for instead, as request and question say in small letters, no labels."""

from __future__ import annotations

from socrates.data.scales.rewrite import any_of

DECIMALS, SEVERAL, RANKING = "decimals", "several answers", "ranking"
OPEN, UNSTATED = "open answer", "no scale stated"

_CHOOSE = r"\b(?:choose|select|pick|mark|check|tick|circle|name)"
_MANY = r"(?:[2-9]|two|three|four|five|six|seven)\b"
_THINGS = (
    r"(?:of|from|options?|answers?|items?|boxes|reasons|things|choices|responses|problems|issues|ratings|numbers"
    r"|scores)\b"
)
_WHOLE = any_of(r"""
\b(?:integers?|whole|full (?:euros|dollars|pounds)|binary)\b
\b(?:no|not an?|not|without|never)(?: any| use| using)? (?:decimal|fraction|pence|cents)\w*
""")
_DECIMALS = any_of(r"""
\b(?:d[eéi][cz]imal|nachkomma|real number|float|fraction|to the cent\b|(?:and|including|with) cents|quarter point)|小数
\bnearest (?:tenth|hundredth|half)\b|\bdigits? after the\b|\bhalf(?:[ -]?(?:points?|stars?|steps?|marks?)| values)\b
(?:\bfrom|\bbetween|e\.g\.,?|such as|for (?:example|instance),?|like|in steps of) [$£€]?\d{1,6}\.\d
[(\[][$£€]?\d{1,6}\.\d|\d\.\d+ (?:means|=|to|and|-)[ ]
""")
_ZERO_TO_ONE = any_of(
    r"""(?:\bfrom|\bbetween|\(|,|range(?: of)?|scale(?: of)?) ?-?[01](?: \(~\))?(?:,| to| and| ?-) ?1(?!\w|[.,]\d|%)"""
)
_TWO_LABELS = any_of(r"""\b[01] ?(?:=|means|is|for|:) ?["']?(?:no|yes|not|false|true)\b(?= ?(?:[,.;)"']|and\b|$))""")
_SEVERAL = any_of(rf"""
\b(?:all|any|every\w*|each|as many(?: \w+)?)(?: \w+){{0,3}} (?:that|which|as) (?:\w+ )?(?:apply|applies|like|want|fit)\b
{_CHOOSE} (?:(?:the|your|any|exactly|top|most|up to|at least|at most|between|from|1 and|[1-9] ?-|[1-9] (?:to|and)) ?)*\
{_MANY}(?! ?(?:=|for|if|means|or (?!more)|%|\)|~|to|and|-|,? \(~\)))
{_CHOOSE} (?:all|every|any(?! (?:\w+[ -]){{0,3}}(?:number|integer|amount|value)\b(?! of))|each|both|several|as many)\b
{_CHOOSE} (?:a maximum of|up to) (?!one|1\b)|\b(?:a maximum of|which|top) {_MANY}|\bone or (?:more|several)\b
\b(?:list|give|indicate|your|the|which|up to) {_MANY} (?:(?:main|most|best|biggest|important) )*{_THINGS}
\b{_MANY} (?:main|most|biggest)\b|\bseveral (?:answers|options|responses|of)\b|\bcomma-separated\b
(?<!not )(?<!no )(?<!not select )(?<!not choose )\bmore than (?:one|1)\b|\b(?:numbers|codes) of (?:every|all|each)\b
(?<!no )(?<!not )\bmultiple (?:answers|responses|options|choices?|selections)\b(?! (?:are|is) not)
\bseparated? (?:\w+ ){{0,3}}(?:by|with) (?:an? )?(?:comma|space|semicolon)
\b(?:divide|distribute|split)\b[^.?!]{{0,60}}\b(?:among|between|across)\b
\bmehrfach|\balles\b[^.?!]{{0,30}}\bzutr|\bmehrere antworten|\bplusieurs (?:réponses|choix)|\btoutes les\b|\btodas las\b
\bhasta (?:\d|dos|tres)\b|\bvarias (?:respuestas|opciones)|多选|所有适用
""")
_IN_WORDS = any_of(r"""\bown words\b|\b\d+ (?:full )?(?:sentences|words|paragraphs|lines|characters)\b""")
_RANKING = any_of(r"""
(?:^|[.?!:,"] |\bplease |\band )(?:rank|re-?order|number the|classez|ordnen sie|rangez|ordene)\b(?! .{0,20}scale)
(?:^|[.?!:] |\bplease )(?:order|sort|arrange|drag|put)\b[^.?!]{0,60}\b(?:from|by|order|so that|top|starting)\b
\b(?:full|your) ranking\b|\b(?:different|each) number (?:from|only|once)\b|\ba rank\b|\bsecond (?:best|choice)\b
\border (?:of|in which)\b|\b(?:what|which|right|correct) order\b|\d ?> ?\d|\bfirst, second and third choice
\bfrom (?:the )?(?:best|worst|most|least)(?: \w+){0,2} to (?:the )?(?:best|worst|most|least)\b
\b(?:rang|reihen)folge|\bpar ordre\b|\b(?:en|por) orden\b|\bde (?:mayor|la plus)\b[^.?!]{0,40} (?:menor|moins)\b|排序
""")
_OPEN = any_of(r"""
\bhow (?:many|old|tall|long|heavy)\b|\b(?:what|which) (?:year|date|day|age|sum|town|city|country|language)\b
\bwhat (?:price|fine|wage)\b|\bhow much(?:, in \w+,)? (?:money|time|did|do|does|would|will|should|is|are)\b\
[^.?!]{0,30}\b(?:pay|spen[dt]|earn|cost|weigh|award)
(?:^|[.?!:,] )what (?:is|was|are|has|were)\b(?! your (?:view|opinion|position))|\bwhen (?:did|were|was|do|will)\b
\b(?:explain|describe|own words|freely|sentences?|paragraph|words|characters|verbatim|tweet|poem|essay|format|why)\b
\bwho\b(?! (?:should|is the|would you vote))|\bcomes to (?:your )?mind\b|_{3,}|\bwhat do you think\b|\bworth\b
\bwhat (?:\w+ )?(?:did|would|will|should|can|do)\b[^.?!]{0,30}\b(?:do|write|say|said|tell|put)\b
\bimportant problem\b|\banything else\b|\bcomments\b|\bwrite it here\b|\bbeschreiben|\bwarum|\bwie ?viele?\b
\b(?:best|own|your) (?:guess|estimate)\b|\b(?:name|e-?mail|phone|prolific id|zip code|address|date)\b
\btell (?:me|us) what\b|\b(?:tell us|write) (?:about|an? (?!number|value|whole|digit|single))|\bas much as you like\b
\bwelchen beruf|\bdécrivez|\bexpliquez|\bpourquoi|\bcombien|\bcuánt[oa]s|\bpor qué|\bdescriba|多少|为什么|描述
""")


def other_request(asked: str) -> str | None:
    """What is asked for in the place of one whole number (`DECIMALS`, `SEVERAL`, `RANKING`, `OPEN`), if anything."""
    share = _ZERO_TO_ONE.search(asked) and not _TWO_LABELS.search(asked)
    if (share or _DECIMALS.search(asked)) and not _WHOLE.search(asked):
        return DECIMALS
    others = {SEVERAL: _SEVERAL, RANKING: _RANKING, OPEN: _IN_WORDS}
    return next((reason for reason, pattern in others.items() if pattern.search(asked)), None)


def is_open(asked: str) -> bool:
    """Whether an amount or words are asked for."""
    return bool(_OPEN.search(asked))
