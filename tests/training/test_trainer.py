"""The loss of a step, and what it is made of, in one process without DeepSpeed."""

import itertools
import json

import numpy as np
import pytest
import torch
from made_answers import make_sample_data
from torch.nn.functional import cross_entropy

from socrates.config import PromptSettings, parse_config
from socrates.data.tokenize import ensure_tokenized
from socrates.data.tokenized import load_tokenized
from socrates.errors import SocratesError
from socrates.model.attention import choose_attention, flat_inputs
from socrates.model.kernels import Fit
from socrates.model.load import load_base_model, load_tokenizer
from socrates.rehearsal.base_model import make_base_model
from socrates.rehearsal.rehearsal import rehearsal_config
from socrates.training.batches import StepLoader, StepOrder, TrainingSteps, flatten, held_out_rows
from socrates.training.setup import make_trainer as make_trainer_of_run
from socrates.training.setup import trainer_arguments

EXAMPLES = 16


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainer")
    make_sample_data(folder / "data" / "set", people=10, train_studies=6, val_studies=2)
    make_base_model(folder / "models" / "base", folder / "data" / "set" / "train.jsonl", steps=2)
    return folder


@pytest.fixture(scope="module")
def rows(workplace):
    tokenizer = load_tokenizer(str(workplace / "models/base"))
    folder = ensure_tokenized(workplace / "data/set/train.jsonl", tokenizer, PromptSettings(), 2048)
    return load_tokenized(folder)[0]


def config_of(model, data, **training):
    value = rehearsal_config(model, data, steps=4, save_steps=4)
    value["lora"]["dropout"] = 0.0
    value["training"] |= {"num_processes": 1, "global_batch_size": EXAMPLES, **training}
    return value


@pytest.fixture
def make_trainer(workplace, rows, monkeypatch):
    """A trainer as a run has it, but without dropout; its gradients can be looked at."""
    monkeypatch.chdir(workplace)

    def make(micro_batch_tokens=2048, **changes):
        changes = {"micro_batch_tokens": micro_batch_tokens, "max_length": 512, **changes}
        config = parse_config(config_of("models/base", "data/set", **changes), "config")
        fit = Fit(choose_attention("sdpa"), False, None, "")
        model = load_base_model(config.model_name, dtype="float32", attn_implementation=fit.attention)
        args = trainer_arguments(config, None)
        tokenizer = load_tokenizer(config.model_name)
        watched = held_out_rows(config, tokenizer)
        return make_trainer_of_run(config, args, model, tokenizer, rows, {}, {}, fit, watched)

    return make


def with_second_factors(trainer):
    """An adapter that acts: the second factors begin as zeros, and then nothing reaches the first."""
    torch.manual_seed(1)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return trainer


def gradients(trainer, step):
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, {"step": step})
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.item(), grads


def losses_alone(trainer, ids):
    """Of each token but the first, the example seeing itself alone."""
    ids = torch.as_tensor(ids)[None]
    with torch.no_grad():
        inputs = flat_inputs([ids.shape[1]], "sdpa_per_example", "cpu")
        out = trainer.model(input_ids=ids, use_cache=False, **inputs)
    return cross_entropy(out.logits[0, :-1], ids[0, 1:], reduction="none")


@pytest.mark.numerical
def test_the_loss_is_the_mean_over_the_steps_supervised_tokens_each_example_alone(make_trainer, rows):
    trainer = with_second_factors(make_trainer())
    loss, _ = gradients(trainer, trainer._steps[0])
    trainer.model.eval()
    numbers = trainer._steps.order.rows_of(0).tolist()
    losses = [losses_alone(trainer, ids) for ids in rows[numbers]["input_ids"]]
    supervised = [part[-n:] for part, n in zip(losses, rows[numbers]["answer_tokens"], strict=True)]
    assert loss == pytest.approx(torch.cat(supervised).mean().item(), abs=1e-5)


@pytest.mark.numerical
def test_the_gradient_does_not_depend_on_how_a_step_is_cut(make_trainer):
    whole = with_second_factors(make_trainer(micro_batch_tokens=100_000))
    small = with_second_factors(make_trainer(micro_batch_tokens=512))
    assert len(whole._steps[0].micro_batches) == 1 < len(small._steps[0].micro_batches)
    (loss, expected), (cut_loss, found) = (gradients(t, t._steps[0]) for t in (whole, small))
    assert cut_loss == pytest.approx(loss, abs=1e-6)
    assert found.keys() == expected.keys() and len(found) > 10
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-6, rtol=1e-4), name


@pytest.mark.numerical
def test_checkpointed_layers_change_memory_only(make_trainer):
    results = []
    for layers in (0, 1, 2):
        trainer = with_second_factors(make_trainer(checkpointed_layers=layers))
        saved = []
        trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: s.append(t.nbytes) or t, lambda t: t):
            loss, grads = gradients(trainer, trainer._steps[0])
        results.append((sum(saved), loss, grads))
    (most, loss, grads), *others = results
    for held, other_loss, other in others:
        assert held < most and other_loss == pytest.approx(loss, abs=1e-7)
        assert all(torch.allclose(other[name], grads[name], atol=1e-7) for name in grads)
    assert results[2][0] < results[1][0]


@pytest.mark.parametrize("every", [None, 1, 3], ids=["all rows", "all rows chosen", "every third row chosen"])
def test_a_step_holds_the_configured_number_of_examples_each_once(rows, every):
    rows = rows.select(range(0, len(rows), every)) if every else rows  # as rows_per_cell chooses
    order = StepOrder(len(rows), EXAMPLES, seed=42)
    for processes in (1, 2, 3, 4):
        shares = [TrainingSteps(rows, order, 512, process, processes) for process in range(processes)]
        lengths = np.array([len(ids) for ids in rows[:]["input_ids"]])
        for number in (0, 5, order.steps_per_epoch - 1):
            expected = sorted(lengths[order.rows_of(number)].tolist())
            steps = [share[number] for share in shares]
            fed = [n for step in steps for batch in step.micro_batches if batch.counts for n in batch.lengths]
            assert sorted(fed) == expected and sum(fed) == steps[0].tokens
            assert len({step.supervised_tokens for step in steps}) == 1
            targets = sum(len(b.targets) for step in steps for b in step.micro_batches if b.counts)
            assert targets == steps[0].supervised_tokens


@pytest.mark.numerical
def test_a_process_without_rows_runs_through_a_filler_that_does_not_count(make_trainer, rows):
    order = StepOrder(len(rows), 1, seed=42)
    busy, idle = (TrainingSteps(rows, order, 2048, process, 2)[0] for process in range(2))
    assert busy.micro_batches[0].counts and not idle.micro_batches[0].counts
    assert busy.tokens == idle.tokens == sum(busy.micro_batches[0].lengths)
    trainer = with_second_factors(make_trainer())
    loss, grads = gradients(trainer, idle)
    assert loss == 0 and not any(g.any() for g in grads.values())


def test_the_loader_goes_on_at_any_step_and_into_the_next_epoch(rows):
    from accelerate import skip_first_batches

    steps = TrainingSteps(rows, StepOrder(len(rows), EXAMPLES, seed=1), 2048)
    loader = StepLoader(steps)
    assert len(loader) == steps.order.steps_per_epoch

    def lengths(batches):
        return [tuple(n for part in batch["step"].micro_batches for n in part.lengths) for batch in batches]

    first = lengths(loader)
    skipped = skip_first_batches(loader, 5)
    assert lengths(skipped) == first[5:]
    loader.set_epoch(1)
    second = lengths(loader)
    assert second != first and sorted(sum(second, ())) == sorted(sum(first, ()))
    assert second[0] == lengths([{"step": steps[len(loader)]}])[0]
    loader = skip_first_batches(StepLoader(steps), 5)
    loader.batch_sampler.batch_sampler.set_epoch(1)  # the Trainer skips first, and says then which epoch it is
    assert lengths(loader) == second[5:]


def test_labels_are_on_the_answer_and_its_end_alone(workplace, rows):
    tokenizer = load_tokenizer(str(workplace / "models/base"))
    batch = TrainingSteps(rows, StepOrder(len(rows), EXAMPLES, seed=1), 4096)[0].micro_batches[0]
    assert batch.input_ids.shape == (1, sum(batch.lengths))
    ids = batch.input_ids[0]
    assert torch.equal(ids[batch.before + 1], batch.targets)
    starts = np.cumsum([0, *batch.lengths])
    for start, end in itertools.pairwise(starts):
        mine = (batch.before >= start) & (batch.before < end)
        places = batch.before[mine] + 1
        assert places.tolist() == list(range(end - len(places), end)), "the last tokens of the example"
        answer = tokenizer.decode(batch.targets[mine])
        assert answer.endswith("<|im_end|>") and answer.removesuffix("<|im_end|>").isdigit()


def test_a_rows_first_token_is_never_predicted_from_the_row_before():
    batch = flatten([{"input_ids": [5, 6], "answer_tokens": 1}, {"input_ids": [7, 8, 9], "answer_tokens": 2}])
    assert batch.before.tolist() == [0, 2, 3] and batch.targets.tolist() == [6, 8, 9]


def test_what_the_log_says_of_a_step(make_trainer):
    trainer = make_trainer()
    trainer.callback_handler.callbacks = []
    steps = [trainer._steps[number] for number in range(2)]
    for step in steps:
        gradients(trainer, step)
    logs = {"loss": 1.0}
    trainer.log(logs)
    assert logs["num_tokens"] == sum(step.tokens for step in steps)
    assert 0 <= logs["mean_token_accuracy"] <= 1
    gradients(trainer, steps[0])
    trainer.log(logs := {"loss": 1.0})
    assert logs["num_tokens"] == sum(step.tokens for step in [*steps, steps[0]]), "counts on"


def test_a_step_whose_loss_is_no_number_does_not_spoil_the_lines_after_it(make_trainer):
    from transformers.trainer_callback import DefaultFlowCallback

    trainer = make_trainer(logging_steps=1)
    trainer.args.set_save("no")
    trainer.callback_handler.callbacks = [DefaultFlowCallback()]
    training_step = trainer.training_step

    def one_is_none(model, inputs, *more):
        loss = training_step(model, inputs, *more)
        return loss * torch.nan if trainer.state.global_step == 1 else loss

    trainer.training_step = one_is_none
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.isfinite(losses).tolist() == [True, False, True, True]


# The rows that are watched.


def watched_rows(folder, count, max_length=2048, data_file="val.jsonl"):
    value = config_of("models/base", str(folder / "data/set"), eval_steps=5, eval_examples=count, max_length=max_length)
    value["evaluation"]["data_file"] = data_file
    return held_out_rows(parse_config(value, "config"), load_tokenizer(str(folder / "models/base")))


def test_the_same_rows_are_watched_each_time_spread_over_the_file(workplace):
    tokenizer = load_tokenizer(str(workplace / "models/base"))
    rows = watched_rows(workplace, 7)
    assert len(rows) == 7 and rows == watched_rows(workplace, 7)
    answers = [json.loads(line)["response"] for line in (workplace / "data/set/val.jsonl").read_text().splitlines()]
    for row in rows:
        text = tokenizer.decode(row["input_ids"][-row["answer_tokens"] :])
        assert int(text.removesuffix("<|im_end|>")) in answers
    assert len(watched_rows(workplace, 100_000)) == len(answers), "a file with fewer rows gives each once"


def test_missing_answers_are_not_watched(workplace):
    row = {"study_id": "s", "condition_num": 0, "task_num": 0}
    row["prompt"] = "Do you? Only return 1 for 'Yes'; 2 for 'No'; 99 for 'Refused', nothing else."
    lines = "".join(json.dumps({**row, "response": response}) + "\n" for response in (1, 99, 2))
    (workplace / "data/set/missing.jsonl").write_text(lines)
    assert len(watched_rows(workplace, 1000, data_file="missing.jsonl")) == 2


def test_rows_that_cannot_be_watched_are_told(workplace):
    with pytest.raises(SocratesError, match="eval_steps"):
        watched_rows(workplace, 7, data_file="absent.jsonl")
    with pytest.raises(SocratesError, match="no row of at most 16 tokens"):
        watched_rows(workplace, 7, max_length=16)
    (workplace / "data/set/bad.jsonl").write_text('{"prompt": "p"}\n')
    with pytest.raises(SocratesError, match="the row that begins at byte 0 is bad"):
        watched_rows(workplace, 1, data_file="bad.jsonl")


@pytest.mark.numerical
def test_the_watched_loss_is_the_mean_over_its_tokens_and_leaves_the_model_as_it_was(make_trainer, workplace):
    trainer = with_second_factors(make_trainer(eval_steps=5, eval_examples=9))
    trainer.model_wrapped, trainer.callback_handler.callbacks = trainer.model, []
    trainer.model.train()
    state = torch.random.get_rng_state()
    found = trainer.held_out_loss()
    assert trainer.model.training and torch.equal(torch.random.get_rng_state(), state)
    rows = watched_rows(workplace, 9, max_length=512)
    trainer.model.eval()
    losses = [losses_alone(trainer, row["input_ids"])[-row["answer_tokens"] :] for row in rows]
    assert found == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)
    trainer.log(logs := {"loss": 1.0})
    assert logs["eval_loss"] == found
    trainer.log(logs := {"loss": 1.0})
    assert "eval_loss" not in logs, "told once"
