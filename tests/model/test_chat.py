"""Chat templates: whose date they write, and that none of them does harm."""

from __future__ import annotations

import copy
import datetime
import resource
import signal
import subprocess
import sys

import pytest
from tiny import CHATML, tiny_tokenizer

from socrates.config import PromptSettings
from socrates.data.tokenized import tokenized_fingerprint
from socrates.errors import SocratesError
from socrates.model import chat
from socrates.model.chat import chat_messages, end_of_turn_id, prompt_fingerprint, prompt_texts
from socrates.model.load import load_tokenizer

BRIEF = PromptSettings(system_message="Be brief.")
LATER = PromptSettings(date=datetime.date(2025, 1, 2))
LLAMA = "{% if not date_string is defined %}{% set date_string = DATE %}{% endif %}{{ date_string }}"


def with_template(template):
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    "dated, expected, later",
    [
        (LLAMA.replace("DATE", "'26 Jul 2024'"), "26 Jul 2024", "02 Jan 2025"),
        (LLAMA.replace("DATE", "strftime_now('%d %b %Y')"), "26 Jul 2024", "02 Jan 2025"),
        ("{{ strftime_now('%B %d, %Y') }}", "July 26, 2024", "January 02, 2025"),
    ],
)
def test_a_date_in_a_prompt_is_the_configs_and_part_of_its_fingerprints(dated, expected, later):
    tokenizer = with_template(dated + CHATML)
    texts = [prompt_texts(tokenizer, ["How many?"], settings)[0] for settings in (None, LATER)]
    assert [text.partition("<|im_start|>")[0] for text in texts] == [expected, later]
    assert prompt_fingerprint(tokenizer) != prompt_fingerprint(tokenizer, LATER)
    assert len({tokenized_fingerprint("d", tokenizer, one, 9) for one in (PromptSettings(), LATER)}) == 2


@pytest.mark.parametrize("settings", [PromptSettings(), BRIEF])
def test_without_a_date_a_prompt_is_what_the_library_makes_of_it(settings):
    tokenizer = with_template("{{ eos_token }}{% generation %}{% endgeneration %}" + CHATML)
    turns = [chat_messages(prompt, settings.system_message) for prompt in ("a", " b\n", "é")]
    texts = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert prompt_texts(tokenizer, ("a", " b\n", "é"), settings) == texts
    later = settings.model_copy(update={"date": LATER.date})
    assert prompt_fingerprint(tokenizer, settings) == prompt_fingerprint(tokenizer, later)


def test_of_several_templates_the_default_is_taken(tmp_path):
    with_template({"default": CHATML, "rag": "x"}).save_pretrained(tmp_path)
    assert (tmp_path / "additional_chat_templates").is_dir() and load_tokenizer(tmp_path).chat_template == CHATML
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(SocratesError, match="no chat template, or several and none that is named default"):
        end_of_turn_id(load_tokenizer(tmp_path))


@pytest.mark.parametrize(
    "template, reason",
    [
        ("{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}", "No system role"),
        ("{{ messages[1].content }}", "it leaves the system message out"),
        ("{% for", "unexpected 'end of template'"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ raise_exception('No.\nNo!' * 1000) }}", "No."),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
        ("{% for i in range(10000000000) %}{% endfor %}", "Range too big. The sandbox blocks"),
        ("{{ 'a' * 4000000000 }}", "it takes over 512 MiB"),
        ("{{ 'a' * 4000000 }}", "it makes 4,000,000 characters of a conversation"),
        (r"{{ '\ud800' }}", "'utf-8' codec can't encode"),
    ],
)
def test_a_fault_of_a_template_is_one_line_that_names_the_system_messages_key_where_there_is_one(template, reason):
    with pytest.raises(SocratesError, match=r"^[^\n]*$") as refused:
        prompt_texts(with_template(template), ["How many?"], BRIEF)
    assert str(refused.value).startswith(f": its chat template cannot be used: {reason}")
    assert '; if it has no system role, set "prompt.system_message" to null' in str(refused.value)


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
DOUBLED = "{% set n.a, n.b = [n.a, n.a], [n.b, n.b] %}"
NESTED = f"{{% set n = namespace(a=1, b=1) %}}{{% for i in range(100) %}}{DOUBLED}{{% endfor %}}{{{{ n.a == n.b }}}}"


@pytest.mark.slow
def test_a_template_without_end_is_stopped_also_on_a_later_row_and_no_limit_stays(monkeypatch):
    monkeypatch.setattr(chat, "_SECONDS", 0.5)
    before = resource.getrlimit(resource.RLIMIT_AS)
    tokenizer = with_template(f"{{% if messages[0].content == 'two' %}}{ENDLESS}{{% endif %}}{CHATML}")
    assert prompt_texts(tokenizer, ["one"])
    with pytest.raises(SocratesError, match="it takes over 1 s"):
        prompt_texts(tokenizer, ["one", "two"])
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getitimer(signal.ITIMER_REAL)) == (before, (0, 0))


@pytest.mark.slow
def test_what_python_cannot_interrupt_the_kernel_ends(tmp_path):
    with_template(NESTED).save_pretrained(tmp_path)
    code = "from socrates.model import chat, load\nchat._SECONDS, chat._CPU_SECONDS = 0, 4\n"
    code += f"chat.end_of_turn_id(load.load_tokenizer({str(tmp_path)!r}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert ended.returncode == -signal.SIGXCPU, ended.stderr
