"""Broken set-ups, each caught by the real script with its remedy; and what it asks of the hub."""

import json
import re

import pytest
from broken_setups import BROKEN
from made_machine import TOKEN, Hub, MadeMachine


@pytest.fixture
def machine(tmp_path):
    hub = Hub()
    yield MadeMachine(tmp_path, hub)
    hub.shutdown()
    hub.server_close()


def lines(done):
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return json.loads(done.stdout)


def line(done, name):
    [found] = [check for check in lines(done) if check["name"] == name]
    return found


def test_a_machine_with_nothing_wrong_passes(machine):
    done = machine.preflight("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    checks = lines(done)
    assert {tuple(check) for check in checks} == {("name", "outcome", "text", "remedy")}
    names = [check["name"] for check in checks]
    assert names == [
        *("Python", "packages", "GPUs", "CUDA", "bf16", "settings", "DeepSpeed", "HF_TOKEN", "model", "data", "data"),
        *("tokenized set", "disk", "memory", "cost"),
    ]
    assert [check["name"] for check in checks if check["outcome"] == "FAIL"] == []
    asked = [path for path in machine.hub.asked if path.startswith(("/api/whoami", "/Qwen"))]
    assert asked == ["/api/whoami-v2", "/Qwen/Qwen2.5-14B-Instruct/resolve/main/config.json"]
    assert "a download of about 27.5 GiB comes first" in line(done, "model")["text"]
    cost = line(done, "cost")["text"]
    assert re.match(r"9,375 steps take about \d+\.\d hours, at 45% of the GPUs' peak \(assumed, not measured\)", cost)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_set_up_is_caught_with_its_remedy(machine, broken):
    broken.broken_by(machine)
    done = machine.preflight("--json")
    found = [check for check in lines(done) if check["name"] == broken.check and check["outcome"] == broken.outcome]
    assert len(found) == 1, done.stdout
    assert broken.text in found[0]["text"] and broken.remedy in found[0]["remedy"], found
    assert done.returncode == (1 if broken.outcome == "FAIL" else 0), done.stdout
    # Nothing else is called wrong: what is unknown for want of this one is at most a warning.
    assert [check["name"] for check in lines(done) if check["outcome"] == "FAIL" and check not in found] == []


def test_without_packages_there_is_a_table_and_an_answer(machine):
    """As in an environment that was made and not filled: an import of one must not end the program."""
    with machine.own_code().open("a") as file:
        file.write("a-package-that-nobody-has==1.0\n")
    for name in ("psutil", "huggingface_hub"):
        (machine.made_up / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name}', name='{name}')\n")
    done = machine.preflight("--json")
    assert done.returncode == 1, done.stderr
    assert [(check["name"], check["outcome"]) for check in lines(done)] == [("Python", "pass"), ("packages", "FAIL")]


def test_the_remedies_for_40_gb_work(machine):
    machine.gpus(4, "NVIDIA A100-SXM4-40GB", 40960)
    machine.config["training"]["checkpointed_layers"] = 0
    layers = int(re.search(r'"checkpointed_layers": (\d+)', line(machine.preflight("--json"), "memory")["remedy"])[1])
    for choice in (layers, None):  # null finds the same number
        machine.config["training"]["checkpointed_layers"] = choice
        check = line(machine.preflight("--json"), "memory")
        assert check["outcome"] == "pass" and f"{layers} of 48 layers recomputed" in check["text"]
    machine.config["training"]["checkpointed_layers"] = layers - 1
    assert (
        line(machine.preflight("--json"), "memory")["outcome"] == "warn"
    )  # less is left free than a prediction misses


def test_offline_with_the_model_in_the_cache_passes_and_asks_nobody(machine):
    machine.cache_model(weights=True)
    machine.environment["HF_HUB_OFFLINE"] = "1"
    del machine.environment["HF_TOKEN"]
    done = machine.preflight("--json")
    assert done.returncode == 0, done.stdout
    assert (line(done, "model")["outcome"], line(done, "HF_TOKEN")["outcome"]) == ("pass", "pass")
    assert machine.hub.asked == []


@pytest.mark.parametrize("name", ["HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"])
def test_the_cache_is_where_the_hubs_own_library_has_it(machine, name):
    machine.cache_model(weights=True)
    del machine.environment["HF_HOME"]
    folder = machine.cache / "hub"
    if name == "XDG_CACHE_HOME":
        folder = machine.cache.rename(machine.cache.with_name("huggingface")).parent
    machine.environment |= {name: str(folder), "TRANSFORMERS_OFFLINE": "1"}  # offline has another name, too
    assert "in the cache; the hub is not reached" in line(machine.preflight("--json"), "model")["text"]
    assert machine.hub.asked == []


def test_without_a_network_a_model_in_the_cache_is_enough(machine):
    machine.cache_model(weights=True)
    machine.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    done = machine.preflight("--json")
    assert done.returncode == 0, done.stdout
    assert line(done, "HF_TOKEN")["outcome"] == "warn" and line(done, "model")["outcome"] == "pass"


@pytest.mark.parametrize("value", [TOKEN + "\nX-Other: 1", "hf with a space", "hf_ünlike"])
def test_what_is_no_token_is_refused_before_it_is_sent_and_not_shown(machine, value):
    machine.environment["HF_TOKEN"] = value
    done = machine.preflight("--json")
    assert line(done, "HF_TOKEN")["outcome"] == "FAIL" and value[:8] not in done.stdout + done.stderr
    assert machine.hub.asked == []


def test_the_tokenized_set_of_the_run_is_known_and_counted_without_loading_torch(machine):
    folder = machine.tokenize()  # by a process that has torch
    info = json.loads((folder / "info.json").read_text())
    done = machine.preflight("--json")
    check = line(done, "tokenized set")
    assert check["outcome"] == "pass" and check["text"] == f"{folder.name}: 40 rows, {info['tokens']} tokens"
    assert line(done, "cost")["text"].startswith("1 step takes")  # 40 rows, not what the metadata tell
    assert "tokenized set of" not in line(done, "disk")["text"]


def test_an_old_nvidia_smi_that_does_not_know_the_compute_capability_leaves_bf16_open(machine):
    script = machine.made_up / "nvidia-smi"
    script.write_text(script.read_text().replace('compute_cap*) cat "$MADE_UP/gpus.csv"', "compute_cap*) exit 2"))
    done = machine.preflight("--json")
    assert done.returncode == 0 and line(done, "bf16")["outcome"] == "warn" and line(done, "GPUs")["outcome"] == "pass"


def test_a_gpu_without_a_known_peak_has_no_price(machine):
    machine.gpus(4, "NVIDIA Something New", 81920, "10.0")
    check = line(machine.preflight("--json"), "cost")
    assert check["outcome"] == "warn" and "no peak is known of NVIDIA Something New" in check["text"]


def test_the_report_for_people_has_each_remedy_under_its_line(machine):
    machine.gpus(3)
    done = machine.preflight()
    assert done.returncode == 1
    assert re.search(r"  \[FAIL\] GPUs: 3 x NVIDIA A100.*\n         -> look at nvidia-smi", done.stdout)
