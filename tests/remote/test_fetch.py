"""A checkpoint from an instance is here with every byte verified, or not at all, whatever happens on the way."""

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
from mirrors import flip_a_bit, same_bytes

from socrates.checkpoint import GUIDE_FILES, find_damage, newest_complete, read_manifest
from socrates.config import load_config
from socrates.errors import SocratesError, plain
from socrates.files import sha256_file
from socrates.remote.fetch import DamagedThere
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.listing import ask, list_folders
from socrates.remote.local import COMPLETE, DAMAGED, LIGHT, OTHER, NoSpace, known_sha256, local_state
from socrates.remote.machine_report import ask_machine
from socrates.training.resume import choose_checkpoint

SHARD = "global_step10/shard.pt"
PYTHON_WITHOUT_END = '#!/bin/sh\n[ "$1" = -c ] || exec head -c 20M /dev/zero\n'


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def place(project, step=10, run="run"):
    return project.models / run / f"checkpoint-{step}"


# The listing


HOSTILE = [
    "run/checkpoint-1; touch X", "run/checkpoint-1\n./run/checkpoint-9", "run/checkpoint-$(touch X)", "run/checkpoint-",
    "run/checkpoint-007", "run/checkpoint-1234567890123", "run/checkpoint--1", "run/checkpoint-1 ",
    "run/checkpoint-\udcff", "run/checkpoint-٣", "-rf/checkpoint-5", "a b/checkpoint-5", "x\ny/checkpoint-5",
    "$(touch X)/checkpoint-5", "\udcff/checkpoint-5", "run/.partial/checkpoint-1", "run/set-aside/checkpoint-10-2026",
    "set-aside/checkpoint-3", ".m/checkpoint-4",
]  # fmt: skip


def test_the_listing_tells_runs_steps_and_manifests_and_no_name_does_harm(project):
    assert list_folders(project.instance) == ([], []), "no models folder"
    folder = project.save(10)
    project.save(20, manifest=False)
    project.save(500, run="other")
    for name in HOSTILE:
        (project.there / name).mkdir(parents=True)
        (project.there / name / "manifest.json").write_text("{}")
    (project.there / "run" / "checkpoint-30").symlink_to(folder)
    (project.there / "run" / "checkpoint-40").write_text("a file")
    (project.there / "my run" / "checkpoint-5" / "sub").mkdir(parents=True)  # looks like one, manifest or not
    (project.there / "run" / "set-aside" / "checkpoint-20-2026").mkdir()
    (project.there / "run" / ".incoming" / "checkpoint-20").mkdir(parents=True)
    listing, unnamed = list_folders(project.instance)
    said = [plain(os.fsencode(name).decode(errors="replace")) for name in HOSTILE]
    assert sorted(path for path, _ in unnamed) == sorted([*said, "my run/checkpoint-5"])
    assert {path for path, sha256 in unnamed if sha256 is None} == {"my run/checkpoint-5"}
    assert [(c.run, c.step, c.is_complete) for c in listing] == [
        ("other", 500, True), ("run", 30, True), ("run", 20, False), ("run", 10, True),
    ]  # fmt: skip
    assert listing[-1].manifest_sha256 == sha256_file(folder / "manifest.json")
    assert not list(project.root.rglob("X"))


@pytest.mark.parametrize("linked", ["run", "run/checkpoint-10"])
def test_a_run_or_a_checkpoint_may_be_a_link_to_another_disk(project, linked):
    there = project.save(10)
    (project.there / linked).rename(project.root / "disk")
    (project.there / linked).symlink_to(project.root / "disk")
    assert [(c.run, c.step, c.is_complete) for c in list_folders(project.instance)[0]] == [("run", 10, True)]
    assert project.fetch(10) and same_bytes(place(project), there)


@pytest.mark.parametrize("how", ["head -c 60", "tail -c +30", "cat; printf x"])
def test_an_answer_that_is_cut_off_is_no_list(project, how):
    project.save(10)
    tnr = project.root / "scripts" / "tnr"
    tnr.rename(tnr.with_name("whole"))
    tnr.write_text(f'#!/usr/bin/env bash\n"$SOCRATES_ROOT/scripts/whole" "$@" | {{ {how}; }}\n')
    tnr.chmod(0o755)
    with pytest.raises(Unreachable, match="its answer is cut off"):
        list_folders(project.instance)


def test_a_login_that_greets_does_not_change_what_is_read(project):
    there = project.save(10)
    tnr = project.root / "scripts" / "tnr"
    text = tnr.read_text()
    assert text.count("    HOME=$home exec") == 1
    tnr.write_text(text.replace("    HOME=$home exec", "    echo Welcome\n    HOME=$home exec"))
    assert len(list_folders(project.instance)[0]) == 1 and project.fetch(10) and same_bytes(place(project), there)


def test_a_limit_is_on_silence_not_on_duration(project):
    talks = "for i in 1 2 3 4 5 6; do sleep 0.3; echo $i; echo $i >&2; done"
    assert project.instance.run(talks, silence=1, stdin=b"x").stdout.split() == [b"1", b"2", b"3", b"4", b"5", b"6"]
    with pytest.raises(Unreachable, match="no answer within 1 s"):
        project.instance.run("echo begun; sleep 60", silence=1)
    assert Instance.run.__kwdefaults__["silence"] == 300


# A copy


def test_what_a_lost_connection_leaves_running_does_not_keep_the_lock(project):
    project.save(10)
    project.fault("before_scp", "sleep 60 </dev/null >/dev/null 2>&1 & exit 254")
    with pytest.raises(Unreachable):
        project.fetch(10)
    project.fault("before_scp", None)
    project.fetch(10)


def test_a_copy_is_the_same_bytes_and_the_second_call_asks_for_nothing(project):
    there = project.save(10)
    assert project.fetch(10)
    assert same_bytes(place(project), there) and find_damage(place(project)) is None
    assert len(project.asked()) == 7
    assert not project.fetch(10) and project.asked() == []
    assert names(project.models / "run" / ".partial") == ["checkpoint-10.lock"]


def test_a_broken_copy_is_not_there_and_goes_on_with_what_verifies(project):
    there = project.save(10)
    project.fault("before_scp", '[[ ${sources[0]} != *global_step* ]] || { echo "connection lost" >&2; exit 254; }')
    with pytest.raises(Unreachable):
        project.fetch(10)
    assert not place(project).exists()
    project.asked()
    # Of the same size and time: rsync would trust it.
    flip_a_bit(project.models / "run" / ".partial" / "checkpoint-10" / "optimizer.pt")
    project.fault("before_scp", None)
    project.fetch(10)
    assert sorted(project.asked()) == ["optimizer.pt", "shard.pt"]
    assert same_bytes(place(project), there)


@pytest.mark.parametrize("harm", ["truncate -s -1", "rm", "ln -sf /etc/hostname"])
def test_what_arrives_wrong_is_fetched_again_and_wrong_twice_is_no_checkpoint(project, harm):
    there = project.save(10)
    spoil = f'[[ ! -e "$target/adapter_model.safetensors" ]] || {harm} "$target/adapter_model.safetensors"'
    project.fault("after_scp", spoil)
    with pytest.raises(SocratesError, match=r"adapter_model\.safetensors arrived damaged twice") as caught:
        project.fetch(10)
    assert not isinstance(caught.value, DamagedThere) and not place(project).exists()
    assert project.asked().count("adapter_model.safetensors") == 2
    shutil.rmtree(project.models)
    project.fault("after_scp", f'[[ -e $SOCRATES_ROOT/spoiled ]] || {{ {spoil}; : >"$SOCRATES_ROOT/spoiled"; }}')
    project.fetch(10)
    assert same_bytes(place(project), there) and project.asked().count("adapter_model.safetensors") == 2


@pytest.mark.parametrize(
    "harm, reason",
    [
        (flip_a_bit, "does not match the manifest there"),
        (lambda p: (p.unlink(), p.symlink_to("/etc/hostname")), "is missing there"),
    ],
)
def test_damage_on_the_instance_is_told_apart(project, harm, reason):
    harm(project.save(10) / SHARD)
    with pytest.raises(DamagedThere, match=f"damaged on the instance: {SHARD} {reason}") as caught:
        project.fetch(10)
    assert list(caught.value.files) == [SHARD] and not place(project).exists()


def test_what_else_lies_in_the_staging_folder_does_not_come_along(project, request):
    there = project.save(10)
    staging = project.models / "run" / ".partial" / "checkpoint-10"
    (staging / ".rsync-partial").mkdir(parents=True)
    (staging / ".rsync-partial" / "optimizer.pt").write_bytes(b"part")
    (staging / "left" / "over").mkdir(parents=True)
    request.addfinalizer(lambda: subprocess.run(["rm", "-rf", staging], check=True))  # pytest could not
    for deep in ("left", ".rsync-partial", "global_step10"):  # as no recursion of Python's comes to the end of
        subprocess.run(["mkdir", "-p", staging / deep / ("a/" * 1500)], check=True)
    (staging / "of_another.pt").write_bytes(b"x")
    (staging / "trainer_state.json").symlink_to(there / "trainer_state.json")
    project.fetch(10)
    assert same_bytes(place(project), there)
    assert names(place(project)) == names(there)


# What is here already


def test_another_runs_checkpoint_is_set_aside_and_stays_until_the_new_one_is_whole(project):
    project.save(10)
    project.fetch(10)
    old = sha256_file(place(project) / "manifest.json")
    there = project.save(10)
    project.fault("before_scp", "exit 254")
    with pytest.raises(Unreachable):
        project.fetch(10)
    assert sha256_file(place(project) / "manifest.json") == old
    assert local_state(place(project), sha256_file(there / "manifest.json")).kind == OTHER
    project.fault("before_scp", None)
    said = []
    project.fetch(10, say=said.append)
    (aside,) = (project.models / "run" / "set-aside").iterdir()
    assert same_bytes(place(project), there)
    assert find_damage(aside) is None and sha256_file(aside / "manifest.json") == old
    assert str(aside) in said[0]


def test_light_takes_the_guides_files_and_stays_until_the_whole_one_is_here(project):
    there = project.save(10)
    project.fetch(10, light=True)
    here = place(project)
    assert sorted(project.asked()) == sorted([*GUIDE_FILES, "training_config.json"])
    manifest = read_manifest(here)
    assert manifest.left_out == (SHARD,) and manifest.source_sha256 == sha256_file(there / "manifest.json")
    assert local_state(here, manifest.source_sha256).kind == local_state(here).kind == LIGHT
    assert not project.fetch(10, light=True)
    project.fault("before_scp", "exit 254")
    with pytest.raises(Unreachable):
        project.fetch(10)
    assert local_state(here).kind == LIGHT
    project.fault("before_scp", None)
    project.fetch(10)
    assert same_bytes(here, there) and not (project.models / "run" / "set-aside").exists()
    assert names(project.models / "run" / ".partial") == ["checkpoint-10.lock"]
    assert not project.fetch(10, light=True) and local_state(here).kind == COMPLETE


def killed_at_rename(number, project, monkeypatch):
    rename, left = Path.rename, iter(range(number))

    def killed(self, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            project.fetch(10)


@pytest.mark.parametrize("number", range(8))
def test_a_kill_while_a_light_one_becomes_whole_leaves_the_light_one(project, monkeypatch, number):
    there = project.save(10)
    project.fetch(10, light=True)
    killed_at_rename(number, project, monkeypatch)
    assert local_state(place(project)).kind == LIGHT
    assert project.fetch(10) and same_bytes(place(project), there)
    assert names(project.models / "run") == [".partial", "checkpoint-10"]


def test_a_kill_between_the_two_renames_of_a_swap_loses_neither(project, monkeypatch):
    project.save(10)
    project.fetch(10)
    there = project.save(10)
    killed_at_rename(1, project, monkeypatch)
    (aside,) = (project.models / "run" / "set-aside").iterdir()
    assert local_state(aside).kind == COMPLETE and not place(project).exists()
    project.asked()
    assert project.fetch(10) and project.asked() == [] and same_bytes(place(project), there)


def test_no_training_goes_on_from_a_light_one(project):
    for step in (10, 20):
        project.save(step)
    project.fetch(10)
    project.fetch(20, light=True)
    newest, passed_over = newest_complete(project.models / "run")
    assert newest == place(project, 10)
    assert "light download: 1 of its files were left" in passed_over[place(project, 20)]
    data = load_config(Path(__file__).resolve().parents[2] / "config_test_run.json")
    with pytest.raises(SocratesError, match=r"cannot resume from it: a light download.*download_checkpoint\.sh 20"):
        choose_checkpoint(data, {}, str(place(project, 20)))
    (place(project, 20) / "optimizer.pt").unlink()
    assert local_state(place(project, 20)).kind == DAMAGED


# A hostile or broken manifest


STRANGE = [
    "../../evil", "/etc/evil", "a/../../evil", "a//b", "./a", "a/.", "", "a\nb", "a b", "$(touch X)", "a\x00b",
    "manifest.json", "Manifest.json", ".rsync-partial/x", "~/x", "a:b", "é",
]  # fmt: skip


def listing(*paths, size=1, sha256="0" * 64):
    return {"files": [{"path": path, "size": size, "sha256": sha256} for path in paths]}


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"step": 11}, "is of step 11"),
        *[(listing(path), "lists a name that no file of a checkpoint has") for path in STRANGE],
        *[(listing("a", size=size), "size or SHA-256") for size in (-1, 2**51, "7", True, 10**400)],
        (listing("a", size=1e999), "1e999 is not a number"),
        (listing("a", sha256="x"), "size or SHA-256"),
        (listing(*map(str, range(1001))), "1001 files"),
        ({"files": 5}, "malformed"),
        (listing(), "lists no files"),
        (listing("a/b", "A/b"), "or twice: 'A/b'"),
        *[({"num_processes": ranks}, "num_processes") for ranks in (0, 4097, 10**3999, "2", None)],
        ({"padding": "x" * (10 * 2**20)}, "larger than 10 MiB"),
    ],
)
def test_a_malformed_manifest_is_refused(project, change, reason):
    folder = project.save(10)
    record = json.loads((folder / "manifest.json").read_text()) | change
    (folder / "manifest.json").write_text(json.dumps(record).replace("Infinity", "1e999"))
    with pytest.raises(SocratesError, match=reason):
        project.fetch(10)
    assert project.asked() == [] and not place(project).exists()


@pytest.mark.parametrize("where", ["optimizer.pt", ".rsync-partial/optimizer.pt", "deep/er/than/listed"])
def test_what_grows_beyond_its_manifest_is_stopped_and_fetched_once_it_is_right_again(project, where):
    there = project.save(10)
    flood = f'mkdir -p "$(dirname "$target/{where}")"; exec head -c 20G /dev/zero >"$target/{where}"'
    project.fault("before_scp", flood)
    with pytest.raises(SocratesError, match="more arrives than the manifest lists: stopped"):
        project.fetch(10)
    assert sum(path.stat().st_size for path in project.models.rglob("*")) < 2**20 and not place(project).exists()
    project.fault("before_scp", None)
    assert project.fetch(10) and same_bytes(place(project), there)


@pytest.mark.parametrize("stream", [1, 2])
def test_an_answer_without_end_is_not_read_to_its_end(project, stream):
    before = psutil.Process().memory_info().rss
    with pytest.raises(SocratesError, match="answers with more than 64 MiB"):
        project.instance.run(f"exec cat /dev/zero >&{stream}")
    with pytest.raises(SocratesError, match="answers with more than 64 MiB"):  # it ends before the first look
        project.instance.run(f"exec head -c 65M /dev/zero >&{stream}")
    assert psutil.Process().memory_info().rss - before < 2**30


def test_a_listing_and_a_report_have_limits_of_their_own(project):
    with pytest.raises(Unreachable, match=rf"cut off \({32 * 2**20} bytes\)"):
        ask(project.instance, "head -c 40M /dev/zero")
    there = project.there.parent
    for name, text in (("socrates/machine/status.py", ""), ("venv/bin/python", PYTHON_WITHOUT_END)):
        (there / name).parent.mkdir(parents=True)
        (there / name).write_text(text)
        (there / name).chmod(0o755)
    with pytest.raises(SocratesError, match="a command failed"):
        ask_machine(project.instance)


# The disk, and others who work here


def test_a_manifest_larger_than_the_disk_is_refused_before_anything_is_fetched(project):
    folder = project.save(10)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"size": 200', f'"size": {2**50}', 1))
    with pytest.raises(NoSpace, match=r"needs 1125\d\d\d\.\d GB, .* free"):
        project.fetch(10)
    assert project.asked() == []


def test_a_file_that_the_disk_no_longer_gives_is_damage(project, monkeypatch):
    project.save(10)
    project.fetch(10, light=True)

    def digest(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr("socrates.remote.local.file_identity", digest)
    state = local_state(place(project))
    assert state.kind == DAMAGED and re.search(r"/\w+\.\w+ cannot be read: Input/output error", state.reason)


def test_digests_are_remembered_until_a_file_changes(tmp_path, monkeypatch):
    path, read = tmp_path / "file", []
    monkeypatch.setattr("socrates.remote.local.sha256_file", lambda p: read.append(p) or sha256_file(p))
    path.write_bytes(b"a" * 100)
    assert known_sha256(path) == known_sha256(path) and len(read) == 1
    flip_a_bit(path)
    assert known_sha256(path) == sha256_file(path) and len(read) == 2
