"""Answers on the way: whole batches or nothing, of one evaluation, written by one process."""

import errno
import os

import pytest

from socrates.errors import SocratesError
from socrates.inference import journal as unfinished
from socrates.inference.journal import open_journal

IDENTITY = {"model": "a" * 64, "seed": 42, "decoding": {"temperature": 0.6}}


def answers(*numbers):
    return [{"line": number} for number in numbers]


def begun(folder, *batches):
    opened = open_journal(folder, IDENTITY)
    opened.begin({"dtype": "float32"})
    for batch in batches:
        opened.append(batch, 1.5)
    return opened


def test_what_was_appended_is_there_again(tmp_path):
    begun(tmp_path, answers(1, 2), answers(3)).close()
    again = open_journal(tmp_path, dict(IDENTITY))
    assert again.answers == answers(1, 2, 3) and again.seconds == 3.0
    assert again.header == {"identity": IDENTITY, "about": {"dtype": "float32"}}
    again.append(answers(4), 1.0)
    again.close()
    assert open_journal(tmp_path, IDENTITY, discard=True).answers == answers(1, 2, 3, 4)  # one's own are kept


@pytest.mark.parametrize(
    "damage", [b'{"seconds": 1.0, "li', b"\0" * 50, b"\0" * 50 + b"\n", b"\xff\n", b"7\n", b'{"line": 3}\n']
)
def test_a_line_that_is_damaged_or_cut_off_costs_no_others(tmp_path, damage):
    begun(tmp_path, answers(1), answers(2)).close()
    with (tmp_path / "unfinished.jsonl").open("ab") as file:
        file.write(damage)
    again = open_journal(tmp_path, IDENTITY)
    assert again.answers == answers(1, 2) and again.damaged == damage.endswith(b"\n")
    again.append(answers(3), 1.0)
    again.close()
    assert open_journal(tmp_path, IDENTITY).answers == answers(1, 2, 3)


@pytest.mark.parametrize(
    "edit", [b'"line": 7', b'"line": NaN', b'"line": "\\ud800"', b'"lime": 1', b'"line": 1, "x": 1']
)
def test_an_answer_that_was_edited_is_not_believed(tmp_path, edit):
    begun(tmp_path, answers(1), answers(2)).close()
    path = tmp_path / "unfinished.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"line": 1', edit))
    again = open_journal(tmp_path, IDENTITY)
    assert again.answers == answers(2) and again.damaged == 1 and again.seconds == 1.5


@pytest.mark.parametrize("header", [b"{", b"[]", b"{}", b'{"identity": 7}', b"\xff"])
def test_answers_of_an_unknown_run_are_kept_until_they_are_discarded(tmp_path, header):
    begun(tmp_path, answers(1)).close()
    path = tmp_path / "unfinished.jsonl"
    path.write_bytes(header + b"\n" + path.read_bytes().partition(b"\n")[2])
    before = path.read_bytes()
    with pytest.raises(SocratesError, match=r"another run: .*--overwrite"):
        open_journal(tmp_path, IDENTITY)
    assert path.read_bytes() == before
    assert open_journal(tmp_path, IDENTITY, discard=True).answers == []


def test_lines_that_were_moved_or_stand_twice_are_not_taken_for_others(tmp_path):
    begun(tmp_path, answers(1)).close()
    path = tmp_path / "unfinished.jsonl"
    header, answer = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header * 2 + answer)
    again = open_journal(tmp_path, IDENTITY)
    assert again.answers == answers(1) and again.damaged == 1
    again.close()
    path.write_bytes(answer + header)
    with pytest.raises(SocratesError, match="its first line is damaged"):
        open_journal(tmp_path, IDENTITY)


def test_a_kill_before_the_header_is_whole_leaves_nothing(tmp_path):
    (tmp_path / "unfinished.jsonl").write_bytes(b'{"identity": {"mod')
    again = open_journal(tmp_path, IDENTITY)
    assert again.answers == [] and again.header is None


@pytest.mark.parametrize(
    ("change", "told"),
    [({"model": "b" * 64}, r"model \(\"a+…, now \"b+…\)"), ({"seed": 43, "new": None}, r"seed \(42, now 43\)")],
)
def test_another_evaluations_answers_are_kept_from_us_and_for_it(tmp_path, change, told):
    begun(tmp_path, answers(1)).close()
    other = {**IDENTITY, **change}
    with pytest.raises(SocratesError, match=rf"another run: {told}.*choose another --output.*--overwrite"):
        open_journal(tmp_path, other)
    mine = open_journal(tmp_path, IDENTITY)
    assert mine.answers == answers(1)
    mine.close()
    discarded = open_journal(tmp_path, other, discard=True)
    assert discarded.answers == [] and discarded.header is None
    discarded.close()


def test_two_at_once_are_refused(tmp_path):
    first = begun(tmp_path)
    with pytest.raises(SocratesError, match="another run is writing there now"):
        open_journal(tmp_path, IDENTITY)
    first.remove()
    assert not (tmp_path / "unfinished.jsonl").exists()
    open_journal(tmp_path, IDENTITY).close()


def test_who_waits_while_another_finishes_gets_a_folder_of_its_own(tmp_path, monkeypatch):
    """The lock that it waited for is of a folder that is gone by then."""
    first = begun(tmp_path, answers(1))
    take = unfinished.try_lock

    def finish_meanwhile(file):
        monkeypatch.setattr(unfinished, "try_lock", take)
        first.remove()
        return take(file)

    monkeypatch.setattr(unfinished, "try_lock", finish_meanwhile)
    second = open_journal(tmp_path, IDENTITY)
    second.begin({})
    second.append(answers(2), 1.0)
    with pytest.raises(SocratesError, match="another run is writing there now"):
        open_journal(tmp_path, IDENTITY)
    second.close()
    assert open_journal(tmp_path, IDENTITY).answers == answers(2)


def test_it_is_removed_before_the_lock_is_let_go(tmp_path, monkeypatch):
    """Else it would take with it what the next one has begun."""
    first = begun(tmp_path, answers(1))

    def nobody_else_is_in(path, **options):
        with pytest.raises(SocratesError, match="writing there now"):
            open_journal(tmp_path, IDENTITY)
        unlink(path, **options)

    unlink = unfinished.Path.unlink
    monkeypatch.setattr(unfinished.Path, "unlink", nobody_else_is_in)
    first.remove()
    assert not (tmp_path / "unfinished.jsonl").exists()


def test_answers_that_cannot_be_written_say_why(tmp_path, monkeypatch):
    mine = begun(tmp_path, answers(1))

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        monkeypatch.context() as broken,
        pytest.raises(SocratesError, match=r"No space left.*; free some space and run"),
    ):
        broken.setattr(os, "fsync", fail)
        mine.append(answers(2), 1.0)
    mine.close()
    assert open_journal(tmp_path, IDENTITY).answers == answers(1)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SocratesError, match="cannot write"):
        open_journal(tmp_path / "file", IDENTITY)
