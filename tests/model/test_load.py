"""Loading models and adapters: what comes out is what lies in the folder, and what is wrong there gets its message."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from made_hub import COMMIT, Hub
from processes import environment
from safetensors.torch import load, load_file, save_file
from tiny import END_OF_TEXT, IM_END, PROJECTIONS, save_model, survey_model, tiny_tokenizer, with_adapter

from socrates.errors import SocratesError, escaped
from socrates.inference.run import InferenceRequest
from socrates.model import load as loading
from socrates.model.adapter import AdapterConfig
from socrates.model.chat import prompt_token_ids
from socrates.model.hub import find_model, fingerprint, locate_model, names_a_folder
from socrates.model.load import adapter_weights, end_token_ids, load_base_model, load_tokenizer

NAME = "someone/some-model"  # on the hub
LORA_B = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}  # of float32, through two layers, on any processor


def load_model(name, **options):
    return loading.load_model(locate_model(name, **options))


@contextmanager
def refused(*words: str):
    """A SocratesError whose message holds these words."""
    with pytest.raises(SocratesError) as caught:
        yield caught
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a base model, a checkpoint on it, and a checkpoint of step 0; not to be changed."""
    folder = tmp_path_factory.mktemp("models")
    model, tokenizer = survey_model(1)
    save_model(model, tokenizer, folder / "base")
    for name, size in (("checkpoint-10", 0.05), ("checkpoint-0", 0.0)):
        model, tokenizer = survey_model(1)
        model.name_or_path = model.config._name_or_path = str(folder / "base")
        adapted = with_adapter(model, size=size)
        adapted.peft_config["default"].base_model_name_or_path = str(folder / "base")
        save_model(adapted, tokenizer, folder / name)
    return folder


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """Copy a made folder into an empty current folder, to be broken."""
    monkeypatch.chdir(tmp_path)

    def copied(name: str) -> Path:
        return Path(shutil.copytree(made / name, tmp_path / name))

    return copied


def logits_of(model, tokenizer):
    ids = torch.tensor(prompt_token_ids(tokenizer, ["How many?"], None))
    with torch.no_grad():
        return model(input_ids=ids).logits


def assert_same_model(loaded, model, tokenizer):
    weights = loaded.model.state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weights[name], weight), name
    # Not to the last digit: its weights lie elsewhere in memory, and a processor's kernels may go by that.
    torch.testing.assert_close(logits_of(loaded.model, loaded.tokenizer), logits_of(model, tokenizer), **ROUNDING)


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_model_folder_comes_back_as_it_was_saved(made):
    model, tokenizer = survey_model(1)
    loaded = load_model(made / "base")
    assert_same_model(loaded, model, tokenizer)
    assert loaded.tokenizer.chat_template == tokenizer.chat_template
    assert loaded.base_name == str(made / "base") and loaded.adapter is None and loaded.commit is None
    assert loaded.device.type == "cpu" and loaded.causal_lm.dtype == torch.float32
    assert loaded.causal_lm.config._attn_implementation == "sdpa"
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.end_token_ids == tuple(sorted(tokenizer.convert_tokens_to_ids([IM_END, END_OF_TEXT])))


def test_an_adapter_is_loaded_on_its_base(made):
    model, tokenizer = survey_model(1)
    expected = with_adapter(model, size=0.05)
    loaded = load_model(str(made / "checkpoint-10"))
    assert_same_model(loaded, expected, tokenizer)
    assert loaded.adapter == made / "checkpoint-10" and loaded.base_name == str(made / "base")
    assert any("lora_B" in name for name, _ in loaded.causal_lm.named_parameters())
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())


def test_a_given_base_model_and_a_relative_one(copy, made):
    checkpoint = copy("checkpoint-10")
    edit_json(checkpoint / "adapter_config.json", base_model_name_or_path="models/run/base")
    with refused("models/run/base: no such model folder", "checkpoint-10/adapter_config.json names"):
        load_model(checkpoint)
    assert load_model(checkpoint, base_model=made / "base").base_name == str(made / "base")
    shutil.copytree(made / "base", "models/run/base")
    assert load_model("./checkpoint-10").base_name == "models/run/base"
    edit_json(checkpoint / "adapter_config.json", base_model_name_or_path=None)
    with refused("base_model_name_or_path"):
        load_model(checkpoint)
    with refused("takes no base model"):
        load_model("models/run/base", base_model="models/run/base")


def test_a_base_model_for_training_has_the_type_and_the_attention_asked_for(made):
    base = load_base_model(made / "base", dtype="bfloat16", attn_implementation="eager")
    assert base.dtype == torch.bfloat16 and base.config._attn_implementation == "eager"
    with refused("a model without *.safetensors weights", "checkpoint-10/ holds README.md, adapter_config.json"):
        load_base_model(made / "checkpoint-10", dtype="float32", attn_implementation="sdpa")


def test_every_place_that_names_an_end_token_counts():
    tokenizer = tiny_tokenizer(1)
    turn_end, text_end = tokenizer.convert_tokens_to_ids([IM_END, END_OF_TEXT])
    assert end_token_ids(tokenizer, None) == tuple(sorted((turn_end, text_end)))
    assert end_token_ids(tokenizer, 7) == (7, *sorted((turn_end, text_end)))
    assert end_token_ids(tokenizer, [9, 7, turn_end]) == (7, 9, *sorted((turn_end, text_end)))


# --- wrong folders ----------------------------------------------------------------------------------------------------


def test_a_path_is_never_tried_on_the_hub_and_a_missing_one_names_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socrates.model.hub.snapshot", lambda *_: pytest.fail("asked the hub"))
    for name in ("models/run/checkpoint-500", "./a/b", "/nowhere/at-all", "~/no-such-model", "base", "a/b/c"):
        with refused(f"{name}: no such model folder"):
            load_model(name)
    assert not names_a_folder("models/run") and not names_a_folder("Qwen/Qwen2.5-14B-Instruct")
    (tmp_path / "models/run/checkpoint-250").mkdir(parents=True)
    (tmp_path / "models/notes.txt").write_text("x")
    assert names_a_folder("models/run")
    for name, message in (
        ("models/run/checkpoint-500", "models/run/ holds checkpoint-250"),
        ("models/walk", "models/ holds notes.txt, run/ (a hub name is owner/model, where no folder owner/ is here)"),
        ("models/walk/checkpoint-1", "there is no models/walk/ either"),
        ("checkpoint-500", "a hub name is owner/model"),
        ("models/notes.txt", "is a file, expected a model folder"),
        ("", "name of the model is empty"),
    ):
        with refused(message):
            load_model(name)
    with refused("a local folder has no revisions"):
        load_model("models/run", revision="main")


def test_an_adapter_without_weights_or_with_bad_ones(copy):
    checkpoint = copy("checkpoint-10")
    weights = checkpoint / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5], b""):
        weights.write_bytes(damaged)
        with refused("adapter_model.safetensors: damaged or cut off"):
            load_model(checkpoint)
    tensors = load(whole)
    tensors[(bad := sorted(tensors)[3])][1, 2] = torch.nan
    save_file(tensors, weights)
    with refused(f"adapter_model.safetensors: 1 of its {len(tensors)} weights hold NaN or infinity: {bad}"):
        load_model(checkpoint)
    weights.unlink()
    with refused("holds an adapter_config.json but no adapter_model.safetensors; copy or download it again"):
        load_model(checkpoint)
    (checkpoint / "adapter_config.json").write_text("{")
    weights.write_bytes(whole)
    with refused("adapter_config.json: line 1"):
        load_model(checkpoint)
    (checkpoint / "adapter_config.json").unlink()
    with refused("holds no model and no adapter", "adapter_model.safetensors"):
        load_model(checkpoint)


def test_an_adapter_of_the_old_format_is_loaded_once_the_command_that_it_is_refused_with_has_converted_it(copy, made):
    checkpoint = copy("checkpoint-10").rename("ten 'x'")
    weights = checkpoint / "adapter_model.safetensors"
    torch.save(load_file(weights), checkpoint / "adapter_model.bin")
    weights.unlink()
    with refused("adapter_model.bin is of a format that can run code") as caught:
        load_model(checkpoint)
    command = str(caught.value).splitlines()[1]
    subprocess.run(command, shell=True, check=True, env=environment())
    assert torch.equal(*(adapter_weights(folder)[LORA_B] for folder in (checkpoint, made / "checkpoint-10")))
    assert load_model(checkpoint).adapter == checkpoint


HOSTILE_CONFIGS = {
    "target_modules": ["([a-z_.0-9]+)+!", "(a|a)(a|a)(a|a)(a|a)!", ".*.*.*.*!", "q\x1b[2J", ["(a*)*"], 7, "a" * 10**6],
    "exclude_modules": ["([a-z_.0-9]+)+!"],
    "modules_to_save": [["([a-z_.0-9]+)+!"]],
    "layers_pattern": ["([a-z_.0-9]+)+!"],
    "rank_pattern": [{"([a-z_.0-9]+)+!": 4}, {"q_proj": 10**9}],
    "alpha_pattern": [{"([a-z_.0-9]+)+!": 4}],
    "base_model_name_or_path": ["x" * 6000, "x/" * 3000, "base\x1b[2J", ["base"], ""],
    "revision": ["\x1b]0;main\x07", 7],
    "peft_type": ["PREFIX_TUNING", None],
    "r": [10**9, "8", 0],
    "init_lora_weights": ["pissa_niter_999999999"],
    "megatron_config": [{"a": 1}],
    "layer_replication": [[[0, 1]] * 10**4],
    "alora_invocation_tokens": ["all"],
    "lora_alpha": [[], {}],  # and what PEFT finds itself
    "bias": [7],
    "layers_to_transform": [{"a": 1}],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in HOSTILE_CONFIGS.items() for value in values]
)
def test_a_config_that_no_adapter_has_is_refused_by_its_key(copy, key, value):
    checkpoint = copy("checkpoint-10")
    edit_json(checkpoint / "adapter_config.json", **{key: value})
    begun = time.monotonic()
    with refused("checkpoint-10", *([f'"{key}'] if key in AdapterConfig.model_fields else [])) as caught:
        load_model(checkpoint)
    assert time.monotonic() - begun < 10 and len(str(caught.value)) < 600
    assert escaped(str(caught.value)) == str(caught.value)


def test_a_pattern_of_layers_is_taken_where_it_is_matched_at_once(copy):
    checkpoint = copy("checkpoint-10")
    for pattern in (r"^model\.layers\.\d+\.(?:self_attn|mlp)\..*_proj$", rf".*\.({'|'.join(PROJECTIONS)})"):
        edit_json(checkpoint / "adapter_config.json", target_modules=pattern)
        assert load_model(checkpoint).adapter == checkpoint


def test_a_model_with_damaged_missing_or_other_weights(copy):
    base = copy("base")
    edit_json(base / "config.json", hidden_size=128)
    with refused("base: cannot load the model"):
        load_model(base)
    edit_json(base / "config.json", hidden_size=64)
    weights = base / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    for read in (load_model, lambda name: fingerprint(locate_model(name))):
        with refused("model.safetensors: damaged or cut off", "download it again"):
            read(base)
    tensors = load(whole)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with refused("1 weights are missing (model.layers.1.mlp.up_proj.weight)"):
        load_model(base)
    index = {"weight_map": {"lm_head.weight": "model-1.safetensors", "model.norm.weight": "model-2.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    weights.rename(base / "model-1.safetensors")
    with refused("model-2.safetensors: this weight file is missing"):
        load_model(base)
    (base / "model.safetensors.index.json").unlink()
    with refused("without *.safetensors weights"):
        load_model(base)


def test_a_models_fingerprint(copy, made, tmp_path):
    """It follows the weights that are loaded: not where they lie, nor what else lies there."""
    base, checkpoint = copy("base"), copy("checkpoint-10")
    plain, adapted = fingerprint(locate_model(base)), fingerprint(locate_model(checkpoint))
    assert plain == fingerprint(locate_model(made / "base")) != adapted
    links = tmp_path / "snapshot"
    links.mkdir()
    for file in base.iterdir():
        (links / file.name).symlink_to(file)
    (base / "consolidated.safetensors").write_bytes(b"not loaded")
    assert fingerprint(locate_model(links)) == fingerprint(locate_model(base)) == plain
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 1.01
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint(locate_model(base)) != plain
    weights = checkpoint / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert fingerprint(locate_model(checkpoint)) != adapted


def test_a_missing_base_model(copy):
    checkpoint = copy("checkpoint-10")
    edit_json(checkpoint / "adapter_config.json", base_model_name_or_path="/home/trainer/base")
    with refused("/home/trainer/base: no such model folder", "base model of", "checkpoint-10"):
        load_model(checkpoint)
    with refused("holds no model"):
        load_model(checkpoint, base_model=checkpoint)
    with refused(f"{NAME}: no folder here, and cannot reach the hub", "base model of"):
        load_model(checkpoint, base_model=NAME)


def test_a_revision_reaches_the_repository_that_it_means(copy, made, monkeypatch):
    asked = []

    def find(name, revision=None, **_):
        asked.append((str(name), revision))
        return made / "base" if "/" in str(name) and "checkpoint" not in str(name) else Path(name)

    monkeypatch.setattr("socrates.model.hub.find_model", find)
    checkpoint = str(copy("checkpoint-10").relative_to(Path.cwd()))
    edit_json(Path(checkpoint) / "adapter_config.json", base_model_name_or_path="some/base", revision="recorded")
    for arguments, expected in (
        (("some/model", "v1"), [("some/model", "v1")]),
        ((checkpoint,), [(checkpoint, None), ("some/base", "recorded")]),
        ((checkpoint, "v1"), [(checkpoint, None), ("some/base", "v1")]),
        ((checkpoint, None, "my/base"), [(checkpoint, None), ("my/base", None)]),
    ):
        asked.clear()
        locate_model(*arguments)
        assert asked == expected


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_an_adapter_of_another_model(copy):
    base, checkpoint = copy("base"), copy("checkpoint-10")
    weights = checkpoint / "adapter_model.safetensors"
    tensors = load(weights.read_bytes())
    first, *others = sorted(tensors)
    for changed, message in (
        ({name: tensors[name] for name in others}, f"missing: {first}; that have no place: none"),
        (
            {**tensors, "base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": tensors[first].clone()},
            "that have no place: base_model.model.model.layers.9",
        ),
        (
            {**tensors, first: tensors[first][:, :-1].clone()},
            f"size mismatch for {first.replace('.weight', '.default.weight')}: copying a param with shape torch.Size(",
        ),
        (  # of a vocabulary that was enlarged
            {**tensors, "base_model.model.lm_head.weight": torch.zeros(400, 64)},
            "lm_head.weight: copying a param with shape torch.Size([400, 64]) from checkpoint, the shape in current",
        ),
    ):
        save_file(changed, weights, metadata={"format": "pt"})
        with refused(message):
            load_model(checkpoint, base_model=base)


def test_an_adapter_that_changes_nothing(made, copy):
    edit_json(copy("checkpoint-10") / "adapter_config.json", lora_alpha=0)
    for checkpoint in (made / "checkpoint-0", "./checkpoint-10"):
        with refused(": the adapter changes nothing: its lora_B weights are zero", "or sit on no layer"):
            load_model(checkpoint)


def test_tokenizers_that_are_missing_damaged_or_not_what_they_say(copy):
    base = copy("base")
    described = base / "tokenizer.json"
    whole = described.read_text()
    described.write_text(whole[:1000])
    with refused("cannot load the tokenizer"):
        load_tokenizer(base)
    # The library puts a Qwen2 tokenizer (one digit a token) on every Qwen2 model, whatever the file says.
    tiny_tokenizer(3).save_pretrained(base)
    with refused("tokenizer.json: splits numbers otherwise than Qwen2Tokenizer"):
        load_tokenizer(base)
    described.write_text(whole)
    settings = (base / "tokenizer_config.json").read_text()
    edit_json(base / "tokenizer_config.json", model_max_length=[4096])
    with refused("cannot load the tokenizer"):
        load_tokenizer(base)
    (base / "tokenizer_config.json").write_text(settings)
    (base / "chat_template.jinja").unlink()
    with refused("no chat template"):
        load_model(base)
    (base / "tokenizer_config.json").unlink()
    with refused("no tokenizer"):
        load_model(base)


def test_the_checkpoints_own_tokenizer_is_used_and_the_bases_where_it_has_none(copy):
    checkpoint = copy("checkpoint-10")
    template = (checkpoint / "chat_template.jinja").read_text()
    (checkpoint / "chat_template.jinja").write_text(template + "{# the checkpoint's own #}")
    assert "own" in load_model(checkpoint).tokenizer.chat_template
    (checkpoint / "tokenizer_config.json").unlink()
    assert load_model(checkpoint).tokenizer.chat_template == template


def test_a_config_that_names_code_is_refused_without_a_question(copy, monkeypatch):
    base = copy("base")
    edit_json(base / "config.json", model_type="made-up", auto_map={"AutoConfig": "code.Config"})
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asks whether to run it"))
    with refused("cannot load the model"):
        _ = InferenceRequest(str(base), base, None).longest_prompt


# --- hub names --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(made, tmp_path, monkeypatch):
    """The one that the client asks, with a cache of its own."""
    server = Hub(NAME, "hf_secret", folder=made / "base")
    settings = {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": False,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield server
    server.stop()


def test_no_network_says_so(hub):
    hub.stop()
    with refused(f"{NAME}: no folder here, and cannot reach the hub", "local model folder"):
        find_model(NAME)


@pytest.mark.parametrize(
    ("status", "headers", "revision", "words"),
    [
        (403, {"X-Error-Code": "GatedRepo"}, None, ["gated", "terms", "HF_TOKEN"]),
        (401, {"X-Error-Code": "RepoNotFound"}, None, ["no such model", "spelling", "private", "HF_TOKEN"]),
        (404, {"X-Error-Code": "RevisionNotFound"}, "v9", ["revision v9", "does not"]),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, None, ["401", "HF_TOKEN is not"]),
        (503, {}, None, ["503", "try again later"]),
    ],
)
def test_what_the_hub_refuses(hub, status, headers, revision, words):
    hub.refusal = (status, headers)
    with refused(NAME, *words) as caught:
        load_model(NAME, revision=revision)
    assert "hf_secret" not in str(caught.value)
    assert len(hub.asked) <= 2, "who is refused does not ask again and again"


@pytest.mark.parametrize("name", ["base", "checkpoint-10"])
def test_a_hub_name_is_downloaded_once_and_then_found_without_network(hub, made, name, tmp_path, monkeypatch):
    """An adapter has no config.json, which is what is asked for first. Who only tokenizes needs no 30 GB of weights."""
    hub.folder = Path(shutil.copytree(made / name, tmp_path / "served"))
    (hub.folder / "pytorch_model.bin").write_bytes(b"pickles are not wanted")
    wanted = {file.name for file in (made / name).iterdir() if file.suffix != ".md"}
    but_weights = {file for file in wanted if not file.endswith(".safetensors")}
    for weights, files in ((False, but_weights), (True, wanted)):
        for offline in (False, True):
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
            found = find_model(NAME, weights=weights)
            assert found.name == COMMIT and {file.name for file in found.iterdir()} == files
        if not weights:
            with refused("connect and run again"):
                find_model(NAME)


def test_a_base_that_only_an_adapter_names_is_not_downloaded(hub, copy):
    checkpoint = copy("checkpoint-10")
    for revision in (None, "refs/pr/7"):
        edit_json(checkpoint / "adapter_config.json", base_model_name_or_path=NAME, revision=revision)
        with refused(f"{NAME}: not in the local cache, and not downloaded", f"--base-model {NAME}", "checkpoint-10"):
            load_model(checkpoint)
    assert hub.asked == []
    edit_json(checkpoint / "adapter_config.json", revision=None)
    assert load_model(checkpoint, known_bases=(None, NAME)).commit == COMMIT
    hub.asked.clear()
    assert load_model(checkpoint).commit == load_model(checkpoint, base_model=NAME).commit == COMMIT, "in the cache"


def test_a_tokenizer_with_more_tokens_than_the_model(copy):
    base = copy("base")
    tokenizer = load_tokenizer(base)
    tokenizer.add_tokens([f"<extra-{number}>" for number in range(10)])
    tokenizer.save_pretrained(base)
    with refused("tokenizer and model do not belong together"):
        load_model(base)
