"""Run configs: pydantic models, read strictly from JSON, and the checks across fields and files, among them a DeepSpeed
file that contradicts the config or replaces its optimizer or schedule. All problems are reported together.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from socrates.checkpoint import is_run_name
from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.schema import Filled, Schema, model_of, nearest, raise_problems, validate

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)

# Keys of earlier versions, and what has taken their place.
_REPLACED = {
    "per_device_train_batch_size": "global_batch_size says how many examples a step has, micro_batch_tokens how "
    "much of it a process takes at once",
    "gradient_accumulation_steps": "a step takes as many micro-batches as micro_batch_tokens makes necessary",
    "gradient_checkpointing": "checkpointed_layers says how many layers are recomputed (null: as few as memory allows)",
}

# Settings that are gone, which earlier versions wrote into every config and result: the value that asks as we do now.
_GONE: dict[str, Any] = {"answer_forms": [], "merged": False}
_EVALUATE_AGAIN = "evaluate again, into another folder or with --overwrite"

Whole = Annotated[int, Field(ge=1)]

DEFAULT_SEED = 42  # of a run, and of scoring answers made elsewhere: by it both draw the same ones


class LoraSettings(Schema):
    """The adapter (PEFT's LoraConfig)."""

    r: int = Field(ge=1, le=1024)  # rank
    alpha: float = Field(gt=0)  # the update is scaled by alpha / r
    dropout: float = Field(ge=0, le=0.99)
    # the linear layers that get an adapter
    target_modules: tuple[Projection, ...] = Field(PROJECTIONS, strict=False, min_length=1, description="a list")


class TrainingSettings(Schema):
    """One training run. Names are the Trainer's where it has one."""

    global_batch_size: Whole  # examples a step, over all processes
    num_processes: Whole  # GPUs; they share a step's examples, whatever their number
    learning_rate: float = Field(gt=0, le=1)
    micro_batch_tokens: int = Field(2048, ge=16)  # most that a process takes at once; a step takes as many as it needs
    num_train_epochs: float = Field(1.0, gt=0)
    max_steps: Whole | None = None  # stops there, with a schedule of its own; null: whole epochs
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.05, ge=0, le=0.99)  # share of all steps
    weight_decay: float = Field(0.1, ge=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: int = Field(2048, ge=16)  # tokens, prompt and answer; a longer row's stimulus is shortened
    bf16: bool = True
    checkpointed_layers: int | None = Field(None, ge=0)  # recomputed backwards; null: as few as memory allows
    attn_implementation: Literal["auto", "sdpa", "flash_attention_2"] = "auto"  # auto: fastest
    liger_kernels: bool | None = None  # null: where they are installed
    logging_steps: Whole = 10
    save_steps: Whole = 500  # every checkpoint is kept
    eval_steps: Whole | None = None  # loss on a fixed sample of the evaluation rows; null: never
    eval_examples: int = Field(256, ge=1, le=100_000)  # in that sample
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = "none"  # an experiment tracker


class PromptSettings(Schema):
    """How a row becomes a conversation; the same for training and for evaluation."""

    system_message: Filled | None = None  # null: none of ours (the chat template may have one of its own)
    date: datetime.date = Field(datetime.date(2024, 7, 26), strict=False)  # today, for a chat template that writes it


class DecodingSettings(Schema):
    """How a model answers; the paper's protocol."""

    temperature: float = Field(0.6, ge=0, le=10)
    top_p: float = Field(0.9, gt=0, le=1)


UNDECODED = DecodingSettings(temperature=1, top_p=1)  # what the model itself says


class EvaluationSettings(Schema):
    """What the evaluation scripts do when nothing else is said."""

    data_file: Filled = "val.jsonl"  # in dataset_path
    max_examples: Whole | None = 5000  # null: all rows
    rows_per_cell: int | None = Field(20, ge=2)  # at most, while a study has cells left; null: whole cells
    batch_tokens: int | None = Field(None, ge=64)  # at most in one forward pass; null: what memory allows


class DataSettings(Schema):
    """Which rows of the training file a run takes."""

    rows_per_cell: Whole | None = None  # people of a cell at most, spread over demographics; null: all


class RunConfig(Schema):
    """All that a run is made from. Relative paths are relative to the current folder."""

    model_name: Filled  # hub name, or a folder
    dataset_path: Filled  # folder with train.jsonl and val.jsonl
    output_dir: Filled  # gets checkpoint-N/
    lora: LoraSettings
    training: TrainingSettings
    model_revision: Filled | None = None  # commit or tag on the hub
    seed: int = Field(DEFAULT_SEED, ge=0, le=2**32 - 1)
    price_per_hour: float | None = Field(None, ge=0)  # US dollars, for the machine; null: unknown
    max_cost_usd: float | None = Field(None, gt=0)  # stops with a checkpoint before it is passed
    prompt: PromptSettings = PromptSettings()
    decoding: DecodingSettings = DecodingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    data: DataSettings = DataSettings()

    def to_dict(self) -> dict[str, Any]:
        """The resolved config as plain JSON values, in the form that `parse_config` reads."""
        # Without the section where it says nothing: records and run identities stay those of earlier versions.
        return self.model_dump(mode="json", exclude={"data"} if self.data == DataSettings() else None)

    def planned_steps(self, rows: int) -> int:
        """Optimizer steps of the run over so many training rows."""
        per_epoch = math.ceil(rows / self.training.global_batch_size)
        return self.training.max_steps or max(1, math.ceil(self.training.num_train_epochs * per_epoch))

    @property
    def train_file(self) -> Path:
        """The rows to train on."""
        return Path(self.dataset_path) / "train.jsonl"

    @property
    def evaluation_file(self) -> Path:
        """The rows to evaluate on."""
        return Path(self.dataset_path) / self.evaluation.data_file


def load_config(path: Path | str) -> RunConfig:
    """Read and check a run config.

    Raises:
        SocratesError: with every problem of the file, a line each, naming the key and the nearest valid one.
    """
    return parse_config(read_json(path, "config"), str(path))


def parse_config(value: Mapping[str, Any], name: str) -> RunConfig:
    """Check a config that is already in memory; ``name`` is what messages call it."""
    value = without_gone(value, name, "remove it, or name another file with --config")
    config = validate(RunConfig, value, name, _hint)
    raise_problems(name, list(_cross_checks(config)))
    return config


def load_deepspeed(path: Path | str, config: RunConfig) -> dict[str, Any]:
    """Read a DeepSpeed file and check it against the run config.

    Raises:
        SocratesError: with every problem: an `optimizer` or `scheduler` block (DeepSpeed's would silently replace
            the configured schedule), an unknown key, sizes that contradict the config, a ZeRO stage other than 1 or 2.
    """
    value = read_json(path, "DeepSpeed config")
    raise_problems(path, list(_deepspeed_problems(value, config)))
    return value


def load_training(path: Path | str, deepspeed: Path | str | None) -> tuple[RunConfig, Any]:
    """A run config and, where one is named, a DeepSpeed file with which a training may start; SocratesError if not."""
    config = load_config(path)
    output = Path(config.output_dir)
    if output.parent != Path("models") or not is_run_name(output.name):
        raise SocratesError(
            f'{path}: "output_dir" is {config.output_dir!r}: must be models/NAME, where the monitor looks; NAME of '
            "letters, digits, dots, - and _, with a letter or digit first (it may be a link to another disk)"
        )
    return config, load_deepspeed(deepspeed, config) if deepspeed else None


def describe_difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys in which two plain configs differ, as "training.learning_rate: 1e-05 -> 2e-05"."""
    lines = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += describe_difference(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return lines


def _cross_checks(config: RunConfig) -> Iterator[str]:
    t = config.training
    if t.global_batch_size % t.num_processes:
        multiple = max(round(t.global_batch_size / t.num_processes), 1) * t.num_processes
        yield (
            f'"training.global_batch_size": {t.global_batch_size} does not divide by num_processes = '
            f"{t.num_processes}; the nearest that does is {multiple}"
        )
    if t.micro_batch_tokens < t.max_length:
        yield (
            f'"training.micro_batch_tokens": {t.micro_batch_tokens} is less than max_length = {t.max_length}: the '
            "longest row would not fit into any micro-batch"
        )
    if t.eval_steps is not None and t.eval_steps % t.logging_steps:
        yield (
            f'"training.eval_steps": {t.eval_steps} is no multiple of logging_steps = {t.logging_steps}: the loss on '
            "the rows that are watched stands in the log's line of its step"
        )
    if config.max_cost_usd is not None and config.price_per_hour is None:
        yield '"max_cost_usd": needs "price_per_hour", from which the cost is counted'
    if len({*config.lora.target_modules}) < len(config.lora.target_modules):
        yield '"lora.target_modules": one stands there twice'
    if Path(config.evaluation.data_file).name != config.evaluation.data_file:
        yield f'"evaluation.data_file": must be a file name in dataset_path, not {config.evaluation.data_file!r}'


_AUTO = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
_DEEPSPEED_KEYS = (
    *("train_batch_size", *_AUTO, "gradient_clipping", "bf16", "zero_optimization", "steps_per_print"),
    *("wall_clock_breakdown", "zero_allow_untested_optimizer", "communication_data_type", "comms_logger"),
    "flops_profiler",
)
_ZERO_KEYS = (  # what goes with stages 1 and 2 and an adapter on the GPU
    *("stage", "overlap_comm", "contiguous_gradients", "reduce_scatter", "allgather_partitions"),
    *("reduce_bucket_size", "allgather_bucket_size", "round_robin_gradients"),
)
_DEEPSPEED_GONE = {
    "optimizer": "DeepSpeed's would silently replace the one of the run config",
    "scheduler": "DeepSpeed's would silently replace the one of the run config",
    "checkpoint": "a resumed run sets checkpoint.load_universal where the number of processes has changed",
}


def _deepspeed_problems(value: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    zero = value.get("zero_optimization")
    zero = zero if isinstance(zero, Mapping) else {}
    for prefix, section, valid in (("", value, _DEEPSPEED_KEYS), ("zero_optimization.", zero, _ZERO_KEYS)):
        for key in section:
            if not prefix and key in _DEEPSPEED_GONE:
                yield f'"{key}": remove this block: {_DEEPSPEED_GONE[key]}'
            elif key not in valid:
                yield f'"{prefix}{key}": unknown key{nearest(key, valid)}'
    if zero.get("stage") not in (1, 2):
        yield f'"zero_optimization.stage": must be 1 or 2, not {zero.get("stage")!r}'
    for key in (*_AUTO, "gradient_clipping", "bf16"):  # DeepSpeed would take its own default
        if key not in value:
            yield f'"{key}": missing; write ' + ('{"enabled": "auto"}' if key == "bf16" else '"auto"')
    for key in _AUTO:
        if value.get(key, "auto") != "auto":
            yield f'"{key}": write "auto", not {value[key]!r}: micro-batches are counted in tokens (micro_batch_tokens)'
    bf16 = value.get("bf16", {"enabled": "auto"})
    if not isinstance(bf16, Mapping) or set(bf16) != {"enabled"}:
        yield f'"bf16": must be {{"enabled": "auto"}}, not {bf16!r}'
        bf16 = {"enabled": "auto"}
    t = config.training
    for key, actual, wanted in (
        ("train_batch_size", value.get("train_batch_size", "auto"), t.global_batch_size),
        ("gradient_clipping", value.get("gradient_clipping", "auto"), t.max_grad_norm),
        ("bf16", bf16["enabled"], t.bf16),
    ):
        if actual != "auto" and (actual != wanted or isinstance(actual, bool) != isinstance(wanted, bool)):
            yield f'"{key}": {actual!r} contradicts the run config, which says {wanted!r} (or write "auto")'


def without_gone(record: Any, name: str, remedy: str = _EVALUATE_AGAIN) -> Any:
    """What an earlier version recorded, without the settings that are gone.

    Raises:
        SocratesError: it was made with one of them; ``name`` is what the message calls it.
    """
    if not isinstance(record, Mapping):
        return record
    for key, plain in _GONE.items():
        if record.get(key, plain) != plain:
            made = f'"{key}": {json.dumps(record[key])}'
            raise SocratesError(f"{name}: made with {made}, which is no longer supported; {remedy}")
    return {key: without_gone(value, name, remedy) for key, value in record.items() if key not in _GONE}


def _hint(key: str, valid: Collection[str]) -> str | None:
    """What to do about an unknown key that was valid once, or that belongs into another section."""
    if key in _REPLACED:
        return f"; remove it: {_REPLACED[key]}"
    sections = {name: model_of(field.annotation) for name, field in RunConfig.model_fields.items()}
    places = " or ".join(f'"{name}"' for name, model in sections.items() if model and key in model.model_fields)
    return f"; it belongs into {places}" if places and key not in valid else None


def main(config_name: str, deepspeed_name: str) -> None:
    """Check a run's configs before it is launched; print its name and its model, a line each."""
    config, _ = load_training(config_name, deepspeed_name)
    print(Path(config.output_dir).name, config.model_name, sep="\n")
