"""Several machines in one run: the hostfile, what each machine must have, files that travel, and real trainings.

The trainings run on two "hosts": this machine, and a network namespace with its own sshd and its own project folder.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from processes import PATIENCE, ROOT, environment, free_port, logged, train, wait_for
from two_hosts import NEEDS_ROOT, WHY, TwoHosts

from socrates import spreading
from socrates.checkpoints import MANIFEST, find_damage, read_manifest
from socrates.config import parse_config
from socrates.errors import SocratesError
from socrates.files import write_json
from socrates.machine import host_ranks
from socrates.machine.gpus import gpu_numbers
from socrates.machine.host_checks import compare
from socrates.machine.host_ranks import shared_settings
from socrates.machine.hosts import Host, enter_folder, meeting_address, network_settings, read_hostfile
from socrates.machine.process_tree import wait_until
from socrates.machine.restarts import Ended, refusal
from socrates.rehearsal import make_base_model, make_sample_data, rehearsal_config, rehearsal_deepspeed

RUN = "models/run"
SETTINGS = ("--config", "config.json", "--deepspeed", "deepspeed_config.json")
START = ("start", "--hostfile", "hosts", *SETTINGS, "--log", "training.log")
two_hosts = pytest.mark.skipif(NEEDS_ROOT, reason=WHY)


def config_for(ranks):
    config = rehearsal_config("models/base", "data/set", steps=6, save_steps=3)
    config["output_dir"] = RUN
    config["training"] |= {"learning_rate": 2e-3, "logging_steps": 1, "global_batch_size": 16, "num_processes": ranks}
    return config


@pytest.fixture
def made_up_ssh(tmp_path, monkeypatch):
    """Gets the text of a shell script that is `ssh` then."""

    def put(script):
        program = tmp_path / "bin" / "ssh"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return put


# The hostfile.


def read(tmp_path, text, ranks=None):
    path = tmp_path / "hosts"
    path.write_text(text)
    return read_hostfile(path, parse_config(config_for(ranks), "config.json") if ranks else None)


def test_a_hostfile_as_deepspeed_has_it(tmp_path):
    text = "# the cluster\n\n10.0.0.1 slots=4 # this one\nubuntu@worker-1.example  slots = 4\n"
    assert read(tmp_path, text, ranks=8) == (Host("10.0.0.1", 4), Host("ubuntu@worker-1.example", 4))


@pytest.mark.parametrize(
    "text, parts",
    [
        ("one slots=4\ntwo\n", ["line 2: 'two' is not of the form"]),
        ("one slots=four\n", ["line 1:"]),
        ("one slots=-1\n", ["line 1:"]),
        ("one slots=4 extra\n", ["line 1:"]),
        ("one slots=0\ntwo slots=2\n", ["line 1: one has no slots"]),
        ("one slots=1\n\none slots=1\n", ["line 3: one stands in line 1 already"]),
        ("-oProxyCommand=x slots=1\n", ["line 1: '-oProxyCommand=x' is no host name"]),
        ("one;reboot slots=1\ntwo\n", ["line 1: 'one;reboot'", "line 2: 'two'"]),
        ("# nothing\n", ["names no host"]),
        ("one slots=2\n#\ntwo slots=1\n", ["2 (line 1) + 1 (line 3) = 3", '"training.num_processes": 2']),
    ],
)
def test_a_wrong_hostfile_is_told_by_line(tmp_path, text, parts):
    with pytest.raises(SocratesError) as error:
        read(tmp_path, text, ranks=2)
    for part in (str(tmp_path / "hosts"), *parts):
        assert part in str(error.value)


def test_the_first_host_must_be_this_machine_where_others_reach_it():
    others = (Host("two", 1),)
    with pytest.raises(SocratesError, match=r"127\.0\.0\.1 here, which no other machine can reach"):
        meeting_address("hosts", (Host("127.0.0.1", 1), *others))
    with pytest.raises(
        SocratesError, match=r"192\.0\.2\.1, which is no address of this machine; the first line must be"
    ):
        meeting_address("hosts", (Host("192.0.2.1", 1), *others))
    with pytest.raises(SocratesError, match="no such host"):
        meeting_address("hosts", (Host("nowhere.invalid", 1), *others))
    assert meeting_address("hosts", (Host("root@127.0.0.1", 2),)) == "127.0.0.1", "alone it needs no network"


def test_ranks_use_the_network_that_leads_to_rank_zero_unless_told_otherwise():
    found = network_settings("127.0.0.1", {"NCCL_SOCKET_IFNAME": "ib0"})
    assert found == {"GLOO_SOCKET_IFNAME": "lo"}


def test_the_project_lies_below_whatever_the_home_folder_is_there():
    assert enter_folder(Path("/home/a/it's"), Path("/home/a")) == """cd ~/'it'"'"'s'"""
    assert enter_folder(Path("/data/x"), Path("/home/a")) == "cd /data/x"


def test_what_other_hosts_get_of_the_environment():
    given = {"NCCL_DEBUG": "INFO", "HF_TOKEN": "t", "TNR_API_TOKEN": "s", "HOME": "/", "CUDA_VISIBLE_DEVICES": "0"}
    assert shared_settings(given) == {"NCCL_DEBUG": "INFO", "HF_TOKEN": "t"}


def test_the_gpus_that_a_host_leaves():
    assert gpu_numbers({"CUDA_VISIBLE_DEVICES": "3,5,7"}, 2) == [3, 5]
    assert gpu_numbers({}, 2) is None
    assert gpu_numbers({"CUDA_VISIBLE_DEVICES": "3,5,-1,7"}, 2) == [3, 5]
    with pytest.raises(SocratesError, match="CUDA_VISIBLE_DEVICES=-1 names 0 GPUs, 1 processes"):
        gpu_numbers({"CUDA_VISIBLE_DEVICES": "-1"}, 1)
    with pytest.raises(SocratesError, match=r"=GPU-1a does not name GPUs by number; write their numbers \(nvidia-smi"):
        gpu_numbers({"CUDA_VISIBLE_DEVICES": "GPU-1a"}, 1)
    with pytest.raises(SocratesError, match="CUDA_VISIBLE_DEVICES=3 names 1 GPUs, 2 processes"):
        gpu_numbers({"CUDA_VISIBLE_DEVICES": "3"}, 2)


def test_an_error_of_another_hosts_rank_is_a_refusal_too():
    ended = Ended(2, 0, 5, 0, False, "[ubuntu@two] error: models/base: no such model folder\n")
    assert refusal(ended) == "models/base: no such model folder"
    assert refusal(Ended(2, 0, 5, 0, False, "[two] error: this is a defect of the program\n")) is None


def test_what_differs_between_two_hosts():
    own = {
        "python": "3.11.2",
        "packages": {"torch": "2.8.0", "trl": "1.0"},
        "code": {"socrates/a.py": "1", "socrates/b.py": "2", "config.json": "3"},
        "data": {"data/set/train.jsonl": [10, "aa"], "data/set/val.jsonl": [5, "bb"], "data/set/metadata.json": None},
        "model": {"commit": "c1"},
        "gpus": 4,
        "training": None,
    }
    host, root = Host("two", 4), Path("/data/project")
    assert compare(own, own, host, {}, root) == []
    assert compare(own, own | {"gpus": 0}, host, {"DS_ACCELERATOR": "cpu"}, root) == []
    there = {
        "python": "3.12.1",
        "packages": {"torch": "2.8.0"},
        "code": {"socrates/a.py": "1", "socrates/b.py": "9", "socrates/old.py": "4", "config.json": "3"},
        "data": {"data/set/train.jsonl": [10, "cc"], "data/set/val.jsonl": None, "data/set/metadata.json": [1, "d"]},
        "model": {"commit": "c2"},
        "gpus": 2,
        "training": "process 7 on two",
    }
    told = "\n".join(compare(own, there, host, {}, root))
    for part in (
        "Python 3.12, here it is 3.11; make venv/ there anew with that: ssh two 'cd /data/project && rm -r venv && "
        "python3.11 -m venv venv && venv/bin/pip install -r requirements_full_training.txt'",
        "code or config differs: socrates/b.py, socrates/old.py; tar ch scripts socrates",
        "data/set/train.jsonl is another file than here",
        "data/set/val.jsonl is not there; tar cf - data/set/val.jsonl | ssh two 'tar xf - -C /data/project'",
        "commit c2, here it is c1; set model_revision",
        "has 2 GPUs, the hostfile says slots=4",
        "a training is running there already: process 7 on two",
    ):
        assert part in told, told
    assert "metadata" not in told
    patched = own | {"python": "3.11.9", "packages": {"torch": "2.8.0"}}
    [told] = compare(own, patched, host, {}, root)
    assert told == (
        "other versions than here: trl missing, not 1.0; "
        "ssh two 'cd /data/project && venv/bin/pip install -r requirements_full_training.txt'"
    )
    assert compare(own, own | {"python": "3.11.9"}, host, {}, root) == [], "packages are made for 3.11"


def test_what_to_run_on_another_host_works_for_a_folder_with_a_space(tmp_path, made_up_ssh):
    made_up_ssh('shift; exec sh -c "$*"')
    root, data = tmp_path / "there" / "my project", "data/a set/train.jsonl"
    (tmp_path / data).parent.mkdir(parents=True)
    (tmp_path / data).write_text("rows")
    root.mkdir(parents=True)
    facts = {"python": "3.11.2", "packages": {}, "code": {}, "data": {data: [4, "aa"]}, "model": None, "gpus": 1}
    facts["training"] = None
    [told] = compare(facts, facts | {"data": {}}, Host("two", 1), {}, root)
    subprocess.run(["bash", "-c", told.partition("; ")[2]], cwd=tmp_path, check=True)
    assert (root / data).read_text() == "rows"


# The first machine, with an ssh that answers as the test says; the ranks of another one.


def test_a_host_that_was_lost_is_waited_for_and_then_given_up(tmp_path, made_up_ssh, capfd):
    hosts = (Host("two", 1), Host("three", 1))
    made_up_ssh(
        f'case "$*" in *three*) exit 0;; esac; echo >>"{tmp_path}/asked"; test $(wc -l <"{tmp_path}/asked") -gt 2'
    )
    host_ranks._await_hosts(hosts, [], pause=0.05)
    assert capfd.readouterr().out == "=== cannot be reached: two; waiting, 0 of 10 minutes so far\n"
    made_up_ssh("exit 255")
    with pytest.raises(SocratesError, match=r"cannot be reached for 0 minutes: two, three; this must work .*: ssh two"):
        host_ranks._await_hosts(hosts, [], patience=0.2, pause=0.05)
    host_ranks._await_hosts(hosts, [signal.SIGTERM])


def test_a_full_disk_under_the_log_does_not_stop_the_reading(made_up_ssh):
    """Lines that nobody reads would stop the other host's ranks in the middle of a print."""
    made_up_ssh("yes | head -c 300000")
    program = (
        "from socrates.machine import host_ranks as h; from socrates.machine.hosts import Host\n"
        "h._say('x'); follower = h._Follower(Host('two', 1), {})\n"
        "assert h.wait_until(lambda: follower.poll() is not None, 300), 'it waits to be read'"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-uc", program], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE
        )
    assert done.returncode == 0, done.stderr


FOLLOWS = """
import sys
from socrates.machine import host_ranks
launcher = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(3600)"
host_ranks._launcher = lambda *_: [sys.executable, "-c", launcher]
host_ranks.follow()
"""
STARTS_AGAIN = """
from socrates.machine import host_ranks
host_ranks._SILENCE = -59.5
host_ranks._wait_for_predecessor()
"""


def test_the_lock_on_another_host_lives_as_long_as_the_launcher_there(tmp_path):
    """Also where `follow` was killed: the launcher still ends its ranks then."""
    options = {"cwd": tmp_path, "env": environment(PYTHONPATH=str(ROOT)), "text": True}
    follow = subprocess.Popen([sys.executable, "-c", FOLLOWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    follow.stdin.write(json.dumps({"environment": {}, "meeting": "127.0.0.1", "grace": 1}) + "\n")
    follow.stdin.flush()
    assert follow.stdout.readline() == "1\n"
    [launcher] = psutil.Process(follow.pid).children()
    try:
        follow.kill()
        follow.wait()
        again = [sys.executable, "-c", STARTS_AGAIN]
        assert "ranks of an earlier run do not end" in subprocess.run(again, stderr=subprocess.PIPE, **options).stderr
    finally:
        launcher.kill()
        launcher.wait()
    assert subprocess.run(again, **options).returncode == 0


# Files that travel, between processes that have folders of their own.

TRAVEL = r"""
import os, sys
from pathlib import Path
import torch.distributed as dist
from socrates import spreading
from socrates.errors import run_entry_point

def main():
    rank, task = int(os.environ["RANK"]), sys.argv[1]
    dist.init_process_group("gloo")
    os.chdir("shared" if task == "shared" else f"host{rank}")
    spreading._CHUNK = 1000
    output, step = Path("out"), Path("out/checkpoint-3")
    if task == "resume":
        print(rank, spreading.on_every_host(step, output), flush=True)
    else:
        (step / "global_step3").mkdir(parents=True, exist_ok=True)
        (step / "global_step3" / f"shard{rank}").write_bytes(bytes([rank]) * (2500 + rank))
        (step / f"empty{rank}").touch()
        (step / "both").write_text(f"of rank {rank}")
        if task == "blocked" and rank == 0:
            (step / "global_step3" / "shard1").mkdir()
        dist.barrier()
        with spreading.gathered(step):
            if rank == 0:
                print(*sorted(p.name for p in step.rglob("*") if p.is_file()), flush=True)
            dist.barrier()
    dist.barrier()

def main_and_leave():
    try:
        main()
    finally:
        if dist.is_initialized():  # left to the end of the process gloo's threads may abort it
            dist.destroy_process_group()

run_entry_point(main_and_leave)
"""


def travel(tmp_path, task):
    for name in ("host0", "host1", "shared"):
        (tmp_path / name).mkdir(exist_ok=True)
    port = str(free_port())
    started = []
    for rank in ("0", "1"):
        own = {"RANK": rank, "CROSS_RANK": rank, "LOCAL_RANK": "0", "WORLD_SIZE": "2", "CROSS_SIZE": "2"}
        env = environment(PYTHONPATH=str(ROOT), MASTER_ADDR="127.0.0.1", MASTER_PORT=port, **own)
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", TRAVEL, task],
                cwd=tmp_path,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return [(*process.communicate(timeout=PATIENCE), process.returncode) for process in started]


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_checkpoint_comes_together_on_rank_zeros_host_and_goes_back_to_resume(tmp_path):
    (zero, errors, status), one = travel(tmp_path, "save")
    assert status == 0 == one[2], errors + one[1]
    assert zero.split() == ["both", "empty0", "empty1", "shard0", "shard1"]
    whole = files_in(tmp_path / "host0" / "out")
    assert whole["checkpoint-3/global_step3/shard1"] == b"\1" * 2501
    assert whole["checkpoint-3/both"] == b"of rank 0"
    assert not files_in(tmp_path / "host1" / "out"), "a part of a checkpoint fills no disk"

    stale = tmp_path / "host1" / "out" / ".resumed" / "checkpoint-2" / "x"
    stale.parent.mkdir(parents=True)
    stale.touch()
    part = tmp_path / "host1" / "out" / "checkpoint-4" / "shard1"
    part.parent.mkdir()
    part.touch()
    for _ in range(2):  # the second time it is there
        (zero, errors, status), one = travel(tmp_path, "resume")
        assert status == 0 == one[2], errors + one[1]
        assert (zero, one[0]) == ("0 out/checkpoint-3\n", "1 out/.resumed/checkpoint-3\n")
        assert files_in(tmp_path / "host0" / "out") == whole
        there = files_in(tmp_path / "host1" / "out")
        assert there == {f".resumed/{name}": content for name, content in whole.items()}


@pytest.mark.slow
def test_on_a_disk_that_both_see_nothing_is_moved_or_removed(tmp_path):
    (zero, errors, status), one = travel(tmp_path, "shared")
    assert status == 0 == one[2], errors + one[1]
    assert len(zero.split()) == 5 == len(files_in(tmp_path / "shared" / "out"))


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_told_once_and_the_part_stays(tmp_path):
    zero, one = travel(tmp_path, "blocked")
    assert zero[2] == 2 == one[2]
    assert "cannot bring the checkpoint from rank 1 to another host: global_step3/shard1: Is a directory" in zero[1]
    assert "error:" not in one[1] and "Traceback" not in zero[1] + one[1]
    assert (tmp_path / "host1/out/checkpoint-3/global_step3/shard1").is_file()


def test_a_complete_checkpoint_is_never_removed_and_a_mark_may_be_seen_late(tmp_path, monkeypatch, capsys):
    """A network disk may hide for some seconds what another host has made: such a disk is called apart in error."""
    for name, value in (("_ranks_apart", {1}), ("rank", 1), ("leads_host", True), ("_gather", None)):
        monkeypatch.setattr(spreading, name, lambda *_, value=value: value)
    part, whole = tmp_path / "checkpoint-1", tmp_path / "checkpoint-2"
    for folder in (part, whole):
        folder.mkdir()
        with spreading.gathered(folder):
            if folder == whole:
                (folder / MANIFEST).touch()
    assert not part.exists() and (whole / MANIFEST).exists()
    assert f"{whole}: the disk is rank 0's after all" in capsys.readouterr().out

    monkeypatch.setattr(spreading, "_LOOKS", (0.0, 0.2, 0.2))
    assert not spreading._sees(tmp_path / "absent" / "mark")
    mark, looks = tmp_path / "mark", []
    monkeypatch.setattr(spreading.time, "sleep", lambda _: mark.touch() if len(looks) == 2 else looks.append(0))
    assert spreading._sees(mark)


# Real trainings over two hosts.


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """What lies in the project's folder beside the code."""
    folder = tmp_path_factory.mktemp("hosts") / "project"
    make_sample_data(folder / "data" / "set", people=10, train_studies=6, val_studies=2)
    make_base_model(folder / "models" / "base", folder / "data" / "set" / "train.jsonl", steps=2)
    write_json(folder / "config.json", config_for(2))
    write_json(folder / "deepspeed_config.json", rehearsal_deepspeed())
    return folder


@pytest.fixture
def hosts(tmp_path, project):
    """Two of them, which end with the test."""
    found = TwoHosts(tmp_path, project)
    yield found
    with suppress(subprocess.SubprocessError):
        found.run("supervise.py", "stop")
    found.close()


def log_of(hosts):
    path = hosts.folder / "training.log"
    return path.read_text() if path.exists() else ""


def await_log(hosts, text):
    wait_for(lambda: text in log_of(hosts), lambda: log_of(hosts)[-5000:])


def await_end(hosts):
    assert wait_until(lambda: not hosts.run("supervise.py", "state").stdout.startswith("running"), PATIENCE, 1)
    return hosts.run("supervise.py", "state").stdout


@pytest.mark.slow
@two_hosts
def test_a_run_loses_a_host_goes_on_over_both_and_its_checkpoint_verifies(hosts, project, tmp_path):
    """The same losses as two ranks on one host, to the last digit; HF_TOKEN reaches host two, and no list or file."""
    alone = tmp_path / "alone"
    shutil.copytree(project, alone)
    watcher = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "watch_for_secrets.py", tmp_path / "seen"],
        env=environment(SECRETS="hf_made-up-token"),
    )
    started = hosts.run("supervise.py", *START, "--token-on-stdin", "--watch", "600", stdin="hf_made-up-token\n")
    assert started.returncode == 0, started.stdout + started.stderr + log_of(hosts)
    assert f"All hosts (2) are ready; they meet at {hosts.addresses[0]}" in started.stdout
    ranks = [pid for pid in hosts.processes_of_second() if "--local_rank" in " ".join(psutil.Process(pid).cmdline())]
    assert len(ranks) == 1 and psutil.Process(ranks[0]).environ()["HF_TOKEN"] == "hf_made-up-token"
    await_log(hosts, "Checkpoint complete: models/run/checkpoint-3")
    await_log(hosts, "'step': 4")
    hosts.kill_second()
    await_log(hosts, "two cannot be reached any more: the ranks of all other hosts are ended")
    await_log(hosts, "attempt 2: going on from step 3")
    state = await_end(hosts)
    watcher.send_signal(signal.SIGTERM)
    watcher.wait(PATIENCE)
    log = log_of(hosts)
    assert state.startswith("complete"), state + log[-3000:]
    assert "Resuming from models/run/checkpoint-3" in log and "[two] Tokenizing data/set/train.jsonl" in log

    last = hosts.folder / RUN / "checkpoint-6"
    assert hosts.run("verify_checkpoint.py", str(last)).returncode == 0
    files = read_manifest(last).files
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(files)
    assert sum("zero_pp_rank" in name for name in files) == 2
    kept = sorted(path.name for path in (hosts.second / RUN).iterdir())
    assert kept == [".resumed"], "no part of a checkpoint is left on host two"
    assert [path.name for path in (hosts.second / RUN / ".resumed").iterdir()] == ["checkpoint-3"]

    one_host = train(alone)
    assert one_host.returncode == 0, one_host.stdout + one_host.stderr
    keys = ("step", "loss", "grad_norm", "learning_rate")
    losses = [
        [[entry[key] for key in keys] for entry in logged(folder, f"{RUN}/checkpoint-6") if "loss" in entry]
        for folder in (alone, hosts.folder)
    ]
    assert len(losses[0]) == 6 and losses[0] == losses[1]

    seen = (tmp_path / "seen").read_text()
    assert seen.startswith("looked ") and "SECRET" not in seen
    found = subprocess.run(["grep", "-rl", "hf_made-up-token", tmp_path], capture_output=True, text=True)
    assert found.stdout == ""


@pytest.mark.slow
@two_hosts
def test_no_rank_outlives_the_first_host_or_a_stop(hosts):
    for place in (hosts.folder, hosts.second):  # a run that is not over by itself meanwhile
        config = json.loads((place / "config.json").read_text())
        config["training"] |= {"max_steps": 5000, "save_steps": 5000}
        write_json(place / "config.json", config)
    for end in ("kill", "stop"):
        (hosts.folder / "training.log").unlink(missing_ok=True)
        started = hosts.run("supervise.py", *START, "--watch", "600")
        assert started.returncode == 0, started.stdout + started.stderr + log_of(hosts)
        assert hosts.processes_of_second()
        if end == "stop":
            assert hosts.run("supervise.py", "stop").returncode == 0
        else:
            state = json.loads((hosts.folder / ".run" / "state.json").read_text())
            first = psutil.Process(state["pid"])
            for process in [first, *first.children(recursive=True)]:
                with suppress(psutil.Error):
                    process.kill()
        wait_for(lambda: not hosts.processes_of_second(), lambda: "ranks are left on host two")
        assert find_damage(hosts.folder / RUN / "checkpoint-5000") is not None, "it was ended on the way"


@pytest.mark.slow
@two_hosts
def test_what_a_host_lacks_is_told_before_anything_starts(hosts):
    def refused(*parts):
        result = hosts.run("supervise.py", *START)
        assert result.returncode == 2 and "Traceback" not in result.stderr, result.stdout + result.stderr
        for part in ("not every host is ready; nothing was started:", *parts):
            assert part in result.stderr, result.stderr
        assert not (hosts.folder / "training.log").exists()
        return result.stderr

    second, data = hosts.second, hosts.second / "data" / "set"
    ready = hosts.run("hosts.py", "check", "--hostfile", "hosts", *SETTINGS)
    assert ready.returncode == 0 and "All hosts (2) are ready" in ready.stdout, ready.stderr

    (second / "socrates").unlink()
    shutil.copytree(ROOT / "socrates", second / "socrates", ignore=shutil.ignore_patterns("__pycache__"))
    with (second / "socrates" / "sampling.py").open("a") as file:
        file.write("# another version\n")
    rows = (data / "train.jsonl").read_text()
    (data / "train.jsonl").write_text(rows[: len(rows) // 2])
    (data / "val.jsonl").unlink()
    (second / "models" / "base" / "model.safetensors").unlink()
    told = refused(
        "two: its code or config differs: socrates/sampling.py; tar ch scripts socrates",
        f"two: data/set/train.jsonl has {len(rows) // 2} bytes there, {len(rows)} here",
        "two: data/set/val.jsonl is not there",
        "two: the model's folder differs: model.safetensors",
    )
    remedy = next(line for line in told.splitlines() if "tar ch" in line).partition("; ")[2]
    (second / "socrates" / "sampling.py").unlink()
    done = subprocess.run(["bash", "-c", remedy], cwd=hosts.folder, env=hosts.environment(), capture_output=True)
    assert (second / "socrates" / "sampling.py").read_bytes() == (ROOT / "socrates" / "sampling.py").read_bytes(), done

    (second / "venv").unlink()
    refused("two: has no environment; make it: ssh two '")
    os.kill(int((hosts.base / "sshd.pid").read_text()), signal.SIGKILL)
    refused("two: cannot be reached: ", "Connection refused", "ssh two true")


@pytest.mark.slow
@two_hosts
def test_an_error_on_another_host_is_told_with_its_name_and_ends_the_run(hosts):
    tokenizer = hosts.second / "models" / "base" / "tokenizer.json"
    tokenizer.write_bytes(b"{" * tokenizer.stat().st_size)  # of the same size: only loading it shows
    started = hosts.run("supervise.py", *START, "--watch", "600")
    assert started.returncode == 1, started.stdout + log_of(hosts)
    assert "[two] error: " in log_of(hosts) and "Traceback" not in log_of(hosts)
    assert "the training refused to go on: models/base" in started.stderr
    assert not hosts.processes_of_second()
