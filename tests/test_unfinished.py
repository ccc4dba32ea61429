"""Answers on the way: whole batches or nothing, of one evaluation, written by one process."""

import pytest

from socrates.errors import SocratesError
from socrates.unfinished import differing, open_unfinished

IDENTITY = {"model": "a" * 64, "seed": 42, "decoding": {"temperature": 0.6}}


def answers(*numbers):
    return [{"line": number} for number in numbers]


def begun(folder, *batches):
    unfinished = open_unfinished(folder, IDENTITY)
    unfinished.begin(batch_tokens=100)
    for batch in batches:
        unfinished.append(batch, 1.5)
    return unfinished


def test_what_was_appended_is_there_again(tmp_path):
    begun(tmp_path, answers(1, 2), answers(3)).close()
    again = open_unfinished(tmp_path, dict(IDENTITY))
    assert again.answers == answers(1, 2, 3) and again.seconds == 3.0
    assert again.header == {"identity": IDENTITY, "batch_tokens": 100}
    again.append(answers(4), 1.0)
    again.close()
    assert open_unfinished(tmp_path, IDENTITY).answers == answers(1, 2, 3, 4)


@pytest.mark.parametrize(
    "end", [b'{"seconds": 1.0, "answers": [{"li', b"\0" * 50, b"\0" * 50 + b"\n", b"\xff\n", b"7\n"]
)
def test_a_line_that_is_cut_off_is_dropped_and_written_over(tmp_path, end):
    begun(tmp_path, answers(1), answers(2)).close()
    with (tmp_path / "unfinished" / "answers.jsonl").open("ab") as file:
        file.write(end)
    again = open_unfinished(tmp_path, IDENTITY)
    assert again.answers == answers(1, 2)
    again.append(answers(3), 1.0)
    again.close()
    assert open_unfinished(tmp_path, IDENTITY).answers == answers(1, 2, 3)


def test_answers_from_before_the_header_do_not_count(tmp_path):
    begun(tmp_path, answers(1)).close()
    (tmp_path / "unfinished" / "evaluation.json").unlink()
    again = open_unfinished(tmp_path, IDENTITY)
    assert again.answers == [] and again.header is None


@pytest.mark.parametrize("name, value", [("model", "b" * 64), ("seed", 43), ("decoding", {"temperature": 0.7})])
def test_another_evaluations_answers_are_kept_from_us_and_for_it(tmp_path, name, value):
    begun(tmp_path, answers(1)).close()
    other = {**IDENTITY, name: value}
    with pytest.raises(SocratesError, match=rf"another evaluation: {name} \(.*choose another --output.*--overwrite"):
        open_unfinished(tmp_path, other)
    mine = open_unfinished(tmp_path, IDENTITY)
    assert mine.answers == answers(1)
    mine.close()
    discarded = open_unfinished(tmp_path, other, discard=True)
    assert discarded.answers == [] and discarded.header is None
    discarded.close()


def test_discarding_keeps_ones_own_answers(tmp_path):
    begun(tmp_path, answers(1)).close()
    assert open_unfinished(tmp_path, IDENTITY, discard=True).answers == answers(1)


def test_two_at_once_are_refused(tmp_path):
    first = begun(tmp_path)
    with pytest.raises(SocratesError, match="another evaluation is writing there now"):
        open_unfinished(tmp_path, IDENTITY)
    first.remove()
    assert not (tmp_path / "unfinished").exists()
    open_unfinished(tmp_path, IDENTITY).close()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SocratesError, match="cannot write"):
        open_unfinished(tmp_path / "file", IDENTITY)


def test_what_differs_is_named():
    assert differing(IDENTITY, dict(IDENTITY)) == ""
    assert differing(IDENTITY, {**IDENTITY, "seed": 7, "new": None}) == "seed (42, now 7)"
    assert differing({}, {"model": "a" * 64}) == f"model (null, now {'a' * 12}…)"
