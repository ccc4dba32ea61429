"""Broken set-ups, each caught by the real script with its remedy; and what it asks of the hub."""

import re

import pytest
from made_hub import Hub
from made_machine import MODEL, TOKEN, MadeMachine
from processes import assert_refused

pytestmark = pytest.mark.slow  # each test starts programs


@pytest.fixture
def machine(tmp_path):
    hub = Hub(MODEL, TOKEN)
    yield MadeMachine(tmp_path, hub)
    hub.stop()


LINE = re.compile(
    r"^  \[(?P<outcome>pass|warn|FAIL)\] (?P<name>.*?): (?P<text>.*)(?:\n         -> (?P<remedy>.*))?", re.M
)


def lines(done):
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [match.groupdict() for match in LINE.finditer(done.stdout)]


def line(done, name):
    [found] = [check for check in lines(done) if check["name"] == name]
    return found


def test_a_machine_with_nothing_wrong_passes(machine):
    done = machine.preflight()
    assert done.returncode == 0, done.stdout + done.stderr
    names = ["Python", "packages", "GPUs", "HF_TOKEN", "model", "data", "data", "disk", "memory", "cost"]
    assert [check["name"] for check in lines(done)] == names and "FAIL" not in done.stdout
    asked = [path for path in machine.hub.asked if path != "/api/agent-harnesses"]  # of the library itself
    assert asked == ["/Qwen/Qwen2.5-14B-Instruct/resolve/main/config.json"]
    assert "a download of about 27.5 GiB comes first" in line(done, "model")["text"]
    cost = line(done, "cost")["text"]
    assert re.match(r"9,375 steps take about \d+ h \d\d min, at 45% of the GPUs' peak \(assumed, not measured\)", cost)


def test_fewer_people_of_a_cell_are_told_with_what_they_save(machine):
    machine.config["training"]["global_batch_size"] = machine.deepspeed["train_batch_size"] = 4
    machine.config["data"] = {"rows_per_cell": 16}
    told = line(machine.preflight(), "cost")["text"]
    found = re.match(
        r"rows_per_cell = 16 takes 16 of 40 rows, of all 1 cells \(all rows: 10 steps, \d+ s, \$(\d+\.\d\d)\); "
        r"4 steps take about \d+ s, at 45% .*: \$(\d+\.\d\d) at \$7\.20 an hour$",
        told,
    )
    assert found, told


def config(**changes):
    return lambda machine: machine.config.update(changes)


def training(**changes):
    return lambda machine: machine.config["training"].update(changes)


def environment(**changes):
    return lambda machine: machine.environment.update(changes)


def gpus(*arguments):
    return lambda machine: machine.gpus(*arguments)


def pinned(name):
    def pin(machine):
        with machine.own_code().open("a") as file:
            file.write(f"{name}==0.0.1\n")

    return pin


def little_room(machine):
    machine.gpus(4, "NVIDIA A100-SXM4-40GB", 39.4)
    machine.config["training"].update(micro_batch_tokens=16384)


def changed(machine):
    with (machine.data / "train.jsonl").open("a") as file:
        file.write("{}\n")


def gated(machine):
    machine.hub.gated = True
    del machine.environment["HF_TOKEN"]


def offline(machine):
    machine.cache_model()
    machine.environment.update(HF_HUB_OFFLINE="1")


def long_row(machine):
    machine.cache_model(weights=True)
    [config] = machine.cache.glob("hub/*/snapshots/*/config.json")
    config.write_text(config.read_text().replace("{", '{"max_position_embeddings": 4096, ', 1))
    with (machine.data / "val.jsonl").open("a") as file:
        file.write('{"prompt": "' + "word " * 5000 + '"}\n')
    (machine.data / "metadata.json").unlink()


MISSPELT = config(model_name="Qwen/Qwen2.5-14B-Instrct")
# What is wrong with a machine or a run, the check whose line tells it, and parts of the line and of its remedy.
FAIL = {
    "old Python": (environment(MADE_UP_PYTHON="3.10.12"), "Python", "3.10.12", "3.11, 3.12"),
    "no GPU": (gpus(0), "GPUs", "No CUDA GPUs are available; the config has 4", "nvidia-smi"),
    "three GPUs for four": (gpus(3), "GPUs", "3 x NVIDIA A100", '"num_processes": 2'),
    "one is hidden": (environment(CUDA_VISIBLE_DEVICES="0,1,2"), "GPUs", "config has 4", "CUDA_VISIBLE_DEVICES"),
    "a broken driver": (gpus(4, "A100", 80, 8, "the driver is too old"), "GPUs", "is too old; the", "a newer driver"),
    "no bf16": (gpus(4, "Quadro RTX 8000", 48, 7), "bf16", "not on Quadro RTX 8000 (7.0)", "8.0 or more"),
    "less than the weights": (gpus(4, "A10G", 22), "memory", "weights 27.5", "rent GPUs of 35 GiB or more"),
    "no tracker": (training(report_to="wandb"), "settings", "wandb is not installed", "pip install wandb, or"),
    "unknown token": (environment(HF_TOKEN="hf_" + "old" * 9), "model", "answered with status 401", "is not valid"),
    "gated, no token": (gated, "model", "the model is gated", "set HF_TOKEN to"),
    "misspelt model": (MISSPELT, "model", "no such model on the hub", "check the spelling"),
    "no network": (environment(HF_ENDPOINT="http://127.0.0.1:9"), "model", "cannot be reached", "look at the network"),
    "offline, a part cached": (offline, "model", "not completely, in the cache, and HF_HUB_OFFLINE", "unset HF_HUB"),
    "no data": (lambda m: (m.data / "train.jsonl").unlink(), "data", "train.jsonl is not there", "tnr scp 0"),
    "changed data": (changed, "data", "train.jsonl: data file changed after its metadata", "tnr scp 0"),
    "little disk": (environment(MADE_UP_FREE=str(45 * 2**30)), "disk", "19 checkpoints are to come", '"save_steps"'),
}
WARN = {
    "another version": (pinned("numpy"), "packages", "(pinned 0.0.1)", "pip install -r"),
    "much at once for 40 GB": (little_room, "memory", "at 16384 tokens at once", 'write "micro_batch_tokens": 5248'),
    "long rows": (
        long_row,
        "data",
        "val.jsonl: about 1 rows are longer than the 4096 tokens that Qwen/",
        "leaves them",
    ),
    "a GPU of unknown speed": (gpus(4, "NVIDIA New"), "cost", "no peak is known of NVIDIA New", "look at the log's"),
    "max_cost_usd too small": (config(max_cost_usd=40), "cost", "= 40 would stop it at", 'write "max_cost_usd": '),
}
BROKEN = {name: ("FAIL", *row) for name, row in FAIL.items()} | {name: ("warn", *row) for name, row in WARN.items()}


@pytest.mark.parametrize(("outcome", "broken_by", "name", "text", "remedy"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_set_up_is_caught_with_its_remedy(machine, outcome, broken_by, name, text, remedy):
    broken_by(machine)
    done = machine.preflight()
    found = [check for check in lines(done) if check["name"] == name and check["outcome"] == outcome]
    assert len(found) == 1, done.stdout
    assert text in found[0]["text"] and remedy in found[0]["remedy"], found
    assert done.returncode == (1 if outcome == "FAIL" else 0), done.stdout
    # Nothing else is called wrong: what is unknown for want of this one is at most a warning.
    assert [check["name"] for check in lines(done) if check["outcome"] == "FAIL" and check not in found] == []


def test_without_packages_there_is_a_table_and_an_answer(machine):
    """As in an environment that was made and not filled: an import of one must not end the program."""
    pinned("a-package-that-nobody-has")(machine)
    for name in ("psutil", "huggingface_hub"):
        (machine.made_up / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name}', name='{name}')\n")
    done = machine.preflight()
    assert done.returncode == 1, done.stderr
    assert [(check["name"], check["outcome"]) for check in lines(done)] == [("Python", "pass"), ("packages", "FAIL")]
    assert "a-package-that-nobody-has missing" in done.stdout and "-> pip install -r requirements" in done.stdout


@pytest.mark.parametrize(("choice", "layers"), [(0, 40), (48, 48)])
def test_layers_are_checkpointed_as_far_as_40_gb_make_necessary_whatever_the_config_says(machine, choice, layers):
    machine.gpus(4, "NVIDIA A100-SXM4-40GB", 39.4)
    machine.config["training"]["checkpointed_layers"] = choice
    check = line(machine.preflight(), "memory")
    assert check["outcome"] == "pass" and f"{layers} of 48 layers checkpointed" in check["text"]


@pytest.mark.parametrize("without", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_a_network_a_model_in_the_cache_is_enough(machine, without):
    machine.cache_model(weights=True)
    machine.environment |= without
    done = machine.preflight()
    assert done.returncode == 0, done.stdout
    assert "in the cache; the hub is not reached" in line(done, "model")["text"]
    assert machine.hub.asked == []


@pytest.mark.parametrize("value", [TOKEN + "\nX-Other: 1", "hf with a space", "hf_ünlike"])
def test_what_is_no_token_is_refused_before_it_is_sent_and_not_shown(machine, value):
    machine.environment["HF_TOKEN"] = value
    done = machine.preflight()
    assert line(done, "HF_TOKEN")["outcome"] == "FAIL" and value[:8] not in done.stdout + done.stderr
    assert machine.hub.asked == []


def test_what_cannot_be_told_is_status_2(machine):
    machine.deepspeed |= {"train_batch_size": 128}
    assert_refused(machine.preflight(), "deepspeed.json", "128")
    for option, what in (("--config", "config"), ("--deepspeed", "DeepSpeed config")):
        assert_refused(machine.preflight(option, "absent.json"), f"absent.json: no such {what}")
