"""A machine gets a run's newest checkpoint from here, whole under its name or not at all; with the real scripts/tnr."""

import json
import shutil
import sys

import pytest
from mirrors import flip_a_bit, make_project, same_bytes
from processes import ROOT

from socrates.checkpoint import GUIDE_FILES, find_damage
from socrates.errors import SocratesError
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.push import push_newest

pytestmark = pytest.mark.slow  # each test starts programs


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose instance is a folder, with the code and an environment there, and checkpoints 10 and 20 here."""
    monkeypatch.delenv("SOCRATES_BACKEND", raising=False)
    made = make_project(tmp_path)
    shutil.rmtree(made.root / "scripts")
    (made.root / "scripts").symlink_to(ROOT / "scripts")
    (made.root / "instances.json").write_text(json.dumps({"0": {"folder": "instance"}}))
    machine = made.there.parent
    (machine / "venv" / "bin").mkdir(parents=True)
    (machine / "venv" / "bin" / "python").symlink_to(sys.executable)
    (machine / "socrates").symlink_to(ROOT / "socrates")
    for step in (10, 20):
        shutil.copytree(made.save(step), made.models / "run" / f"checkpoint-{step}")
    shutil.rmtree(made.there)
    return made


def test_the_newest_one_from_here_arrives_whole_and_the_second_time_it_is_there(project):
    said = []
    assert push_newest(project.instance, "run", said.append) == "goes on from checkpoint-20, sent from here"
    assert said == ["Sending checkpoint-20 (0.0 MB)..."]
    assert same_bytes(project.there / "run" / "checkpoint-20", project.models / "run" / "checkpoint-20")
    assert [p.name for p in (project.there / "run").glob("checkpoint-*")] == ["checkpoint-20"]
    assert push_newest(project.instance, "run", said.append).endswith("which is on the machine") and len(said) == 1


def test_a_verification_there_that_takes_long_gives_signs_of_life(project, monkeypatch):
    run, said = Instance.run, []
    monkeypatch.setattr(Instance, "run", lambda *a, **more: said.append(run(*a, **more)) or said[-1])
    push_newest(project.instance, "run")
    assert any(done.stderr.count(b"\n") >= len(GUIDE_FILES) and not done.stderr.strip() for done in said)


def test_a_newer_intact_one_there_is_taken_and_a_damaged_or_unfinished_one_is_not(project):
    project.save(30)
    project.save(40, manifest=False)
    assert "checkpoint-30, which is on the machine" in push_newest(project.instance, "run")
    flip_a_bit(project.there / "run" / "checkpoint-30" / "optimizer.pt")
    assert push_newest(project.instance, "run") == "goes on from checkpoint-20, sent from here"


def test_a_damaged_one_of_the_same_name_there_is_moved_away_not_lost(project):
    there = project.save(20)
    flip_a_bit(there / "optimizer.pt")
    bytes_there = (there / "optimizer.pt").read_bytes()
    push_newest(project.instance, "run")
    assert find_damage(there) is None
    (aside,) = (project.there / "run" / "set-aside").iterdir()
    assert (aside / "optimizer.pt").read_bytes() == bytes_there


def test_asked_for_weights_it_sends_or_takes_a_light_one_but_a_whole_one_goes_before(project):
    for step in (10, 20):
        here = project.models / "run" / f"checkpoint-{step}"
        shutil.rmtree(here / f"global_step{step}")
    with pytest.raises(SocratesError, match="the weights of checkpoint-20, which is here, with --resume-weights-only"):
        push_newest(project.instance, "run")
    assert push_newest(project.instance, "run", weights_only=True) == "goes on from checkpoint-20, sent from here"
    assert push_newest(project.instance, "run", weights_only=True).endswith("checkpoint-20, which is on the machine")
    whole = project.save(20)
    shutil.rmtree(project.models / "run" / "checkpoint-20")
    shutil.copytree(whole, project.models / "run" / "checkpoint-20")
    shutil.rmtree(whole / "global_step20")
    assert push_newest(project.instance, "run", weights_only=True) == "goes on from checkpoint-20, sent from here"
    assert find_damage(whole) is None


def test_what_did_not_arrive_intact_is_told_and_the_same_call_mends_it(project):
    incoming = project.there / "run" / ".incoming" / "checkpoint-20"
    shutil.copytree(project.models / "run" / "checkpoint-20", incoming)
    flip_a_bit(incoming / "optimizer.pt")
    with pytest.raises(SocratesError, match="did not arrive intact on instance 0; run the same command again"):
        push_newest(project.instance, "run")
    assert not (project.there / "run" / "checkpoint-20").exists()
    push_newest(project.instance, "run")
    assert find_damage(project.there / "run" / "checkpoint-20") is None


def test_a_machine_that_cannot_verify_gets_no_name_and_loses_nothing(project):
    there = project.save(20)
    flip_a_bit(there / "optimizer.pt")
    (project.there.parent / "venv" / "bin" / "python").unlink()
    with pytest.raises(SocratesError, match=r"a command failed \(status 127\): .*venv/bin/python"):
        push_newest(project.instance, "run")
    assert not (project.there / "run" / "set-aside").exists()
    shutil.rmtree(project.root / "instance")
    with pytest.raises(Unreachable):
        push_newest(project.instance, "run")


def test_the_entry_point_says_what_it_did_and_refuses_what_cannot_be(project):
    def push(*arguments):
        return project.run("remote.push", *arguments, script="lib/run.py")

    assert push("0", "run") == (
        0,
        "Sending checkpoint-20 (0.0 MB)...\nResume: goes on from checkpoint-20, sent from here\n",
    )
    status, output = push("0", "other")
    assert status == 2 and "error: nothing to resume from: no intact checkpoint of other on instance 0" in output
    for wrong, reason in (("../run", "cannot be the name of a run"), ("a/b", "cannot be the name of a run")):
        status, output = push("0", wrong)
        assert status == 2 and reason in output
    status, output = push("7", "run")
    assert status == 2 and "error: instance 7: " in output and "not in " in output
    assert push("../7", "run")[0] == 2
