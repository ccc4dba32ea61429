"""A run on its machine: what is asked for and is not there, and what is chosen."""

import json

import pytest
from made_machine import SHAPE

from socrates.config import parse_config
from socrates.errors import SocratesError
from socrates.model import kernels as fitting
from socrates.model.attention import SDPA
from socrates.rehearsal.rehearsal import rehearsal_config


@pytest.fixture
def config_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(SHAPE))

    def make(**training):
        value = rehearsal_config("base", "data", steps=4, save_steps=4)
        value["training"] |= {"num_processes": 4, "global_batch_size": 256, **training}
        return parse_config(value, "test")

    return make


def test_all_that_would_be_refused_is_told_at_once_with_its_remedy(config_with, monkeypatch):
    monkeypatch.setattr(fitting, "find_spec", lambda name: name == "liger_kernel" or None)
    config = config_with(report_to="trackio", attn_implementation="flash_attention_2", liger_kernels=True)
    told = list(fitting.refused_settings(config, gpu=True))
    starts = ('"training.report_to": ', '"training.attn_implementation": ')
    remedies = ("pip install trackio, or write", "pip install flash-attn --no")
    for text, start, remedy in zip(told, starts, remedies, strict=True):
        assert text.startswith(start) and f"; {remedy}" in text
    assert "pip install liger-kernel, or write null" in list(fitting.refused_settings(config, gpu=False))[2]
    assert list(fitting.refused_settings(config_with(), gpu=False)) == []
    with pytest.raises(SocratesError, match="pip install trackio"):
        fitting.fit_to_machine(config)
    with pytest.raises(SocratesError, match="base: a local folder has no revisions; leave 'v1' out"):
        fitting.fit_to_machine(config_with().model_copy(update={"model_revision": "v1"}))


def test_what_is_chosen_on_a_cpu(config_with, tmp_path):
    fit = fitting.fit_to_machine(config_with(checkpointed_layers=5))
    assert (fit.attention, fit.liger, fit.shape.layers) == (SDPA, False, 48) and "checkpointed layers: 5," in fit.text
    (tmp_path / "base" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert fitting.fit_to_machine(config_with()).shape is None, "costs of another architecture are not known"
