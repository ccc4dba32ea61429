r"""One human answer (`Answer`), read from JSONL as a stream, in the two layouts in use.

Published layout (`socratesft/SocSci210`): `prompt`, `response`, `study_id`, `condition_num`, `task_num`,
`participant`, `sample_id`, `demographic`, `stimuli` (which `prompt` ends with, so that it may be left out).

Instruction layout (data prepared by earlier users of the guide): `instruction`, `input` ("Demographics: Age: 74;
…\n\nScenario: …"), `output` ("Response: 2"), `study_id`, `condition_num`. It is turned into the published one, so that
both give a model the same prompt. It has no `task_num`; the question's own text takes its place.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from socrates.data.other_formats import other_format
from socrates.data.own_words import NOTHING, OwnWords, read_own_words
from socrates.data.scales import Scale, without
from socrates.data.scales.missing import CODES
from socrates.data.scales.text import question_text, read_scale
from socrates.errors import SocratesError
from socrates.files import no_constant, refuse_device
from socrates.schema import shown

PERSONA_HEADER = "You are a survey respondent with the following demographic profile:"
PERSONA_INSTRUCTION = (
    "Read the question below and answer exactly as this person would. Follow the response instructions precisely."
)
_INSTRUCTION_INPUT = re.compile(r"\s*Demographics:[ \t]*(.*?)\n\s*Scenario:[ \t]*(.*)\Z", re.DOTALL)
_INSTRUCTION_FIELDS = re.compile(r";\s+(?=[A-Z][\w/ ]*:(?:\s|\Z))|;\s*\Z")
_INSTRUCTION_OUTPUT = re.compile(r"\s*(?:Response:)?\s*([+-]?\d{1,18})\s*\Z")
QUESTION_PREFIX = "q-"
_RENAMED_FIELDS = {"political_affiliation": "party_id"}
IN_ROW = "given with the row"  # the form in which a scale is stated (`scales.text`)
LONGEST_LINE = 2**26  # bytes; more is no row, and would take the memory
LARGEST = 1e100  # no number of a row is beyond it: differences and squares of answers stay finite


class BadRow(SocratesError):
    """A row that cannot be used: why, and not where it stands."""


class Cell(NamedTuple):
    """The unit of the metric: one outcome question, in one condition, of one study."""

    study_id: str
    condition_num: int
    task_num: int | str  # a text (`QUESTION_PREFIX` and a hash of the question) where the data set numbers no questions


def cell_order(cell: Cell) -> tuple[str, int, bool, int | str]:
    """Sort key of cells: by study, condition and task, numbered tasks before named ones (1 and "1" are two)."""
    return cell.study_id, cell.condition_num, isinstance(cell.task_num, str), cell.task_num


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that one person gave to one question; or the answers that many gave (`counts`)."""

    prompt: str  # the complete model input: persona, instruction sentence, stimulus and question
    stimuli: str  # what the person read, the question, and the answer instruction
    response: float | None  # the human answer; None: `counts` holds those of many people
    cell: Cell
    participant: int | str | None  # counts within a study: not a global id
    sample_id: int | str | None
    line: int  # in the file it came from, from 1
    demographic: Mapping[str, Any] = field(default_factory=dict)
    own: OwnWords = NOTHING  # what the row says itself; it wins over the text

    @property
    def counts(self) -> Mapping[float, float]:
        """How many people gave each answer."""
        return {self.response: 1} if self.own.counts is None else self.own.counts

    @property
    def stated(self) -> tuple[Scale | None, str | None, frozenset[float]]:
        """As `read_scale` of its text, but what the row says itself wins."""
        if self.own.scale is None and self.own.missing is None:
            return read_scale(self.stimuli)
        scale, form, missing = read_scale(self.stimuli)
        if self.own.missing is not None:
            missing = self.own.missing
        if self.own.scale is not None:
            scale, form = self.own.scale, IN_ROW
        return without(scale, missing) if scale and missing else scale, form, missing

    @property
    def is_missing(self) -> bool:
        """Whether it is what stands for a missing answer ("99 for 'Refused'")."""
        if self.own.missing is None and not CODES.fullmatch(str(self.response)):
            return False
        return self.response in self.stated[2]

    def keys(self) -> dict[str, Any]:
        """What names this answer in the files that this project writes."""
        names = {"participant": self.participant, "sample_id": self.sample_id, "line": self.line}
        return {**self.cell._asdict(), **names}


def read_answers(path: Path | str, missing: Counter[tuple[Cell, float]] | None = None) -> Iterator[Answer]:
    """Read the answers of a JSONL file one by one; empty lines are passed over.

    Missing answers are only counted in ``missing``, by cell and code; if it is None, they are answers like others.

    Raises:
        SocratesError: no such file, no rows at all, or a bad line (named by file and line number).
    """
    row = None
    for number, row in read_jsonl(path):
        answer = parse_answer(row, path, number)
        if missing is not None and answer.own.counts is not None:
            answer = _without_missing(answer, missing)
        elif missing is not None and answer.is_missing:
            missing[answer.cell, answer.response] += 1
            answer = None
        if answer is not None:
            yield answer
    if row is None:
        raise SocratesError(f"{path}: holds no rows; expected one JSON object a line")


def _without_missing(answer: Answer, missing: Counter[tuple[Cell, float]]) -> Answer | None:
    """Published counts without those of missing answers; None where nothing else is left."""
    codes = answer.stated[2]
    missing.update({(answer.cell, code): answer.counts[code] for code in codes & answer.counts.keys()})
    kept = {given: people for given, people in answer.counts.items() if given not in codes}
    return replace(answer, own=answer.own.model_copy(update={"counts": kept})) if kept else None


def read_files(
    files: Sequence[Path], missing: Counter[tuple[Cell, float]] | None = None, *, share_cells: bool = False
) -> Iterator[tuple[Path, int, Answer]]:
    """Read several files as `read_answers` does one: file, line in it, and answer, whose line counts on through all.

    Raises:
        SocratesError: a cell is in two of them, unless they may ``share_cells``; or as `read_answers`.
    """
    places: dict[Cell, int] = {}
    before = 0  # lines in the files before
    for place, file in enumerate(files):
        if place:
            with files[place - 1].open("rb") as lines:
                before += sum(1 for _ in lines)
        for answer in read_answers(file, missing):
            if (other := places.setdefault(answer.cell, place)) != place and not share_cells:
                cell = "study {}, condition {}, task {}".format(*answer.cell)
                raise SocratesError(
                    f"{file}, line {answer.line}: {cell} is in {files[other]} too, perhaps "
                    "with the same people; name each file once, and write what belongs together into one"
                )
            yield file, answer.line, replace(answer, line=before + answer.line) if before else answer


def read_jsonl(path: Path | str, *, ours: bool = True) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSONL file; SocratesError on a line that is no JSON object."""
    for number, line in read_lines(path, ours=ours):
        try:
            row = parse_line(line)
        except BadRow as error:
            raise SocratesError(f"{path}, line {number}: {error}") from error
        yield number, row


def read_lines(path: Path | str, *, ours: bool = True) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, bytes) of the lines that are not empty; SocratesError for no such file, or no such line."""
    refuse_device(Path(path), "save it as a file first")
    try:
        with Path(path).open("rb") as file:
            if refused := ours and other_format(path, file.read(2**16)):
                raise SocratesError(refused)
            file.seek(0)
            for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    raise SocratesError(f"{path}, line {number}: has over {LONGEST_LINE:,} bytes, which no row has")
                if line.strip():
                    yield number, line
    except OSError as error:
        problems = {errno.ENOENT: "no such data file", errno.EISDIR: "is a folder; name the .jsonl file in it"}
        problem = problems.get(error.errno, f"cannot read: {error.strerror or error}")
        raise SocratesError(f"{path}: {problem}") from error


def parse_answer(row: Mapping[str, Any], path: Path | str, line: int) -> Answer:
    """Turn one row of either layout into an `Answer`.

    Raises:
        SocratesError: a field is missing or of the wrong type; names file, line and field.
    """
    where = f"{path}, line {line}"
    own = read_own_words(row, where)
    if "output" in row and "response" not in row:
        demographic, stimuli, response = _from_instruction_layout(row, where)
        prompt = None
    else:
        response = _response(row, own, where)
        demographic = row["demographic"] if row.get("demographic") is not None else {}
        if not isinstance(demographic, Mapping):
            raise SocratesError(f'{where}: "demographic" must be an object, not {shown(demographic)}')
        stimuli, prompt = row.get("stimuli"), row.get("prompt")
        if not prompt and not stimuli:
            raise SocratesError(f'{where}: no "prompt" (nor "stimuli" to make it from)')
        prompt = _text(row, "prompt", where) if prompt else None
        stimuli = _text(row, "stimuli", where) if stimuli else stimuli_of(prompt)
    return Answer(
        prompt=prompt or require_encodable(render_prompt(demographic, stimuli), "prompt", where),
        stimuli=stimuli,
        response=response,
        cell=read_cell(row, where, stimuli),
        participant=read_identifier(row, "participant", where),
        sample_id=read_identifier(row, "sample_id", where),
        line=line,
        demographic=demographic,
        own=own,
    )


def _response(row: Mapping[str, Any], own: OwnWords, where: str) -> float | None:
    """The person's answer: a whole number, or a decimal one where the row's own scale has decimals."""
    if own.counts is not None:
        if row.get("response") is not None:
            raise SocratesError(f'{where}: holds both "response", of one person, and "counts", of many; leave one out')
        return None
    value = row.get("response")
    decimals = own.scale is not None and any(isinstance(one, float) for one in own.scale.values)
    if decimals and isinstance(value, float) and abs(value) <= LARGEST:
        return as_number(value)
    return require_integer(row, "response", where)


def read_cell(row: Mapping[str, Any], where: str, stimuli: str | None = None) -> Cell:
    """The cell that a row belongs to; without a `task_num`, the question in ``stimuli`` tells tasks apart."""
    study_id = row.get("study_id")
    if not isinstance(study_id, str) or not study_id:
        raise SocratesError(f'{where}: "study_id" must be a text, not {shown(study_id)}')
    require_encodable(study_id, "study_id", where)
    condition_num = require_integer(row, "condition_num", where)
    task_num = read_identifier(row, "task_num", where)
    if task_num is None and stimuli is not None:
        task_num = _question_name(stimuli)
    return Cell(study_id, condition_num, task_num or require_integer(row, "task_num", where))


@lru_cache(maxsize=8192)  # hundreds of people read the same text, and finding its question takes longest of all
def _question_name(stimuli: str) -> str:
    digest = hashlib.sha256(question_text(stimuli).encode()).hexdigest()
    return f"{QUESTION_PREFIX}{digest[:12]}"


def render_prompt(demographic: Mapping[str, Any], stimuli: str, narrative: str | None = None) -> str:
    """The published `prompt` of a person and a stimulus: persona list (and narrative), instruction sentence, stimulus.

    Fields that are null are left out; names are in title case ("party_id" becomes "Party Id").
    """
    known = [(name, value) for name, value in demographic.items() if value not in (None, "") and value == value]
    persona = [f"- {name.replace('_', ' ').title()}: {value}" for name, value in known]
    told = ["", narrative] if narrative else []
    return "\n".join([PERSONA_HEADER, *persona, *told, "", PERSONA_INSTRUCTION, "", stimuli])


def stimuli_of(prompt: str) -> str:
    """What the person read, of a prompt as `render_prompt` makes it; all of it, where it is made otherwise."""
    persona, found, stimuli = prompt.partition(f"\n\n{PERSONA_INSTRUCTION}\n\n")
    return stimuli if found and stimuli.strip() and persona.startswith(PERSONA_HEADER) else prompt


def require_integer(row: Mapping[str, Any], name: str, where: str) -> int:
    """The whole number in a field (4.0, as some converters write it, is 4); SocratesError if there is none."""
    if name not in row:
        raise SocratesError(f'{where}: no "{name}"; the row has {", ".join(sorted(row)) or "no fields"}')
    value = row[name]
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        if abs(value) > LARGEST:
            raise SocratesError(f'{where}: "{name}" must be within ±{LARGEST:g}, not {shown(value)}')
        return int(value)
    raise SocratesError(f'{where}: "{name}" must be a whole number, not {shown(value)}')


def read_identifier(row: Mapping[str, Any], name: str, where: str) -> int | str | None:
    """The number or text in an optional field that names something; None where it is null, absent or NaN."""
    value = row.get(name)
    if isinstance(value, str):
        return require_encodable(value, name, where)
    return None if value is None or value != value else require_integer(row, name, where)


def require_encodable(text: str, name: str, where: str) -> str:
    """A text that can be written as UTF-8; SocratesError if it holds half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SocratesError(f'{where}: "{name}" holds half a character (\\ud800 to \\udfff)') from error
    return text


def _from_instruction_layout(row: Mapping[str, Any], where: str) -> tuple[dict[str, Any], str, int]:
    source, output = _text(row, "input", where), row["output"]
    parts = _INSTRUCTION_INPUT.match(source)
    if not parts or not parts[2].strip():
        raise SocratesError(f'{where}: "input" must read "Demographics: …", an empty line, "Scenario: …"')
    answer = _INSTRUCTION_OUTPUT.match(str(output))
    if not answer or isinstance(output, bool):
        raise SocratesError(f'{where}: "output" must read "Response: " and a whole number, not {shown(output)}')
    demographic: dict[str, Any] = {}
    for item in filter(None, _INSTRUCTION_FIELDS.split(parts[1].strip())):
        name, colon, value = item.partition(":")
        if not colon:
            raise SocratesError(f'{where}: {shown(item)} in "input" is no demographic field ("Age: 74")')
        key = name.strip().lower().replace(" ", "_")
        demographic[_RENAMED_FIELDS.get(key, key)] = value.strip()
    return demographic, parts[2], int(answer[1])


_NO_CONSTANTS = json.JSONDecoder(parse_constant=no_constant)  # one for all lines: it takes as long as a line


def parse_line(line: bytes, decoder: json.JSONDecoder = _NO_CONSTANTS) -> dict[str, Any]:
    """The JSON object of a line; BadRow if it holds none, or what the decoder refuses (NaN and infinity)."""
    try:
        row = decoder.decode(line.removeprefix(BOM_UTF8).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadRow(f"not UTF-8 text (byte {error.start} of the line)") from error
    except json.JSONDecodeError as error:
        cut = "" if line.endswith(b"\n") else "; the line has no end: the file may be cut off"
        raise BadRow(f"not JSON: {error.msg} (column {error.colno}){cut}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets nested too deep
        raise BadRow(f"cannot be read as JSON: {error}") from error
    if not isinstance(row, dict):
        raise BadRow(f"must be a JSON object, not {shown(row)}")
    return row


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise SocratesError(f'{where}: "{name}" must be a text, not {shown(value)}')
    return require_encodable(value, name, where)


def as_number(number: float) -> float:
    """A number as JSON should show it: 4 rather than 4.0; NumPy's types become Python's."""
    whole = int(number)
    return whole if whole == number and abs(whole) < 2**53 else float(number)
