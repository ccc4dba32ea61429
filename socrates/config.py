"""Run configs: frozen dataclasses, read strictly from JSON, and the checks across fields and files.

Covers: unknown keys (with the nearest valid one), missing and duplicate keys at every depth, wrong types, NaN, numbers
out of range, a global batch that does not multiply out, and a DeepSpeed file that contradicts the config or replaces
its optimizer or schedule. All problems are reported together.
Does not cover: whether the model or the data exist (see `train.py`).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from socrates.errors import SocratesError
from socrates.files import read_json

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def _in(low: float, high: float = math.inf, *, above: bool = False, **default: Any) -> Any:
    """A field whose number lies in [low, high] (with ``above``: strictly above low)."""
    return field(metadata={"low": low, "high": high, "above": above}, **default)


def _one_of(*choices: str, **default: Any) -> Any:
    return field(metadata={"choices": choices}, **default)


@dataclass(frozen=True)
class LoraSettings:
    """The adapter (PEFT's LoraConfig)."""

    r: int = _in(1, 1024)  # rank
    alpha: float = _in(0, above=True)  # the update is scaled by alpha / r
    dropout: float = _in(0, 0.99)
    target_modules: tuple[str, ...] = PROJECTIONS  # the linear layers that get an adapter


@dataclass(frozen=True)
class TrainingSettings:
    """One training run. Names are the Trainer's where it has one."""

    global_batch_size: int = _in(1)  # examples a step, over all processes
    num_processes: int = _in(1)  # GPUs; they share a step's examples, whatever their number
    learning_rate: float = _in(0, 1, above=True)
    micro_batch_tokens: int = _in(
        16, default=2048
    )  # most that a process takes at once; a step takes as many as it needs
    num_train_epochs: float = _in(0, above=True, default=1.0)
    max_steps: int | None = _in(1, default=None)  # stops there, with a schedule of its own; null: whole epochs
    lr_scheduler_type: str = _one_of("cosine", "linear", "constant", "constant_with_warmup", default="cosine")
    warmup_ratio: float = _in(0, 0.99, default=0.05)  # share of all steps
    weight_decay: float = _in(0, 1, default=0.1)
    max_grad_norm: float = _in(0, above=True, default=1.0)
    max_length: int = _in(16, default=2048)  # tokens, prompt and answer; a longer row's stimulus is shortened
    bf16: bool = True
    checkpointed_layers: int | None = _in(0, default=None)  # recomputed backwards; null: as few as memory allows
    attn_implementation: str = _one_of("auto", "sdpa", "flash_attention_2", "varlen", default="auto")  # auto: fastest
    liger_kernels: bool | None = None  # null: where they are installed
    logging_steps: int = _in(1, default=10)
    save_steps: int = _in(1, default=500)  # every checkpoint is kept
    eval_steps: int | None = _in(1, default=None)  # loss on a fixed sample of the evaluation rows; null: never
    eval_examples: int = _in(1, default=256)  # in that sample
    report_to: str = _one_of("none", "tensorboard", "wandb", "trackio", default="none")  # an experiment tracker


@dataclass(frozen=True)
class PromptSettings:
    """How a row becomes a conversation; the same for training and for evaluation."""

    system_message: str | None = None  # null: none of ours (the chat template may have one of its own)


@dataclass(frozen=True)
class DecodingSettings:
    """How a model answers; the paper's protocol."""

    temperature: float = _in(0, 10, default=0.6)
    top_p: float = _in(0, 1, above=True, default=0.9)


@dataclass(frozen=True)
class EvaluationSettings:
    """What the evaluation scripts do when nothing else is said."""

    data_file: str = "val.jsonl"  # in dataset_path
    max_examples: int | None = _in(1, default=5000)  # null: all rows
    rows_per_cell: int | None = _in(2, default=20)  # at most, while a study has cells left; null: whole cells
    batch_tokens: int | None = _in(64, default=None)  # at most in one forward pass; null: what memory allows


@dataclass(frozen=True)
class RunConfig:
    """All that a run is made from. Relative paths are relative to the current folder."""

    model_name: str  # hub name, or a folder
    dataset_path: str  # folder with train.jsonl and val.jsonl
    output_dir: str  # gets checkpoint-N/
    lora: LoraSettings
    training: TrainingSettings
    model_revision: str | None = None  # commit or tag on the hub
    seed: int = _in(0, 2**32 - 1, default=42)
    price_per_hour: float | None = _in(0, default=None)  # US dollars, for the machine; null: unknown
    max_cost_usd: float | None = _in(0, above=True, default=None)  # stops with a checkpoint before it is passed
    prompt: PromptSettings = field(default_factory=PromptSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def to_dict(self) -> dict[str, Any]:
        """The resolved config as plain JSON values, in the form that `parse_config` reads."""
        return _plain(dataclasses.asdict(self))

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
    problems: list[str] = []
    config = _build(RunConfig, value, "", problems)
    if config is not None:
        problems += _cross_checks(config)
    if problems:
        raise SocratesError("\n  ".join([f"{name}: {_count(problems)}", *problems]))
    return config


def load_deepspeed(path: Path | str, config: RunConfig) -> dict[str, Any]:
    """Read a DeepSpeed file and check it against the run config.

    Raises:
        SocratesError: with every problem: an `optimizer` or `scheduler` block (DeepSpeed's would silently replace
            the configured schedule), an unknown key, sizes that contradict the config, a ZeRO stage other than 1 or 2.
    """
    value = read_json(path, "DeepSpeed config")
    problems = list(_deepspeed_problems(value, config))
    if problems:
        raise SocratesError("\n  ".join([f"{path}: {_count(problems)}", *problems]))
    return value


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


def _build(cls: type, value: Any, prefix: str, problems: list[str]) -> Any:
    """An instance of ``cls`` from JSON, or None once a problem was added to ``problems``."""
    if not isinstance(value, Mapping):
        problems.append(f'"{prefix.rstrip(".")}" must be an object, not {value!r}')
        return None
    hints, fields = typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls)}
    before, values = len(problems), {}
    for key in value:
        if key not in fields and not (f"{prefix}{key}" == "decoding.answer_forms" and value[key] == []):
            problems.append(f'"{prefix}{key}": unknown key{_nearest(key, fields)}')
    for name, item in fields.items():
        if name in value:
            values[name] = _convert(hints[name], value[name], f"{prefix}{name}", item.metadata, problems)
        elif item.default is MISSING and item.default_factory is MISSING:
            problems.append(f'"{prefix}{name}": missing')
    return cls(**values) if len(problems) == before else None


def _convert(hint: Any, value: Any, key: str, rules: Mapping[str, Any], problems: list[str]) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{key}.", problems)
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            problems.append(f'"{key}": must be a list of texts, not {value!r}')
            return None
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1e300 else math.inf
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        problems.append(f'"{key}": must be {_TYPE_NAMES[hint]}, not {value!r}')
        return None
    problems.extend(_range_problems(key, value, rules))
    return value


def _range_problems(key: str, value: Any, rules: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(value, str) and not value.strip():
        yield f'"{key}": must not be empty'
    if "choices" in rules and value not in rules["choices"]:
        yield f'"{key}": must be one of {", ".join(rules["choices"])}, not {value!r}'
    if "low" in rules:
        low, high, above = rules["low"], rules["high"], rules["above"]
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            bound = f"above {low}" if above else f"at least {low}"
            yield f'"{key}": must be {bound}{f" and at most {high}" if high != math.inf else ""}, not {value!r}'


def _cross_checks(config: RunConfig) -> Iterator[str]:
    t = config.training
    if t.global_batch_size % t.num_processes:
        yield (
            f'"training.global_batch_size": {t.global_batch_size} does not divide by num_processes = '
            f"{t.num_processes}; the nearest that does is {_nearest_multiple(t.global_batch_size, t.num_processes)}"
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
    modules = config.lora.target_modules
    for module in dict.fromkeys(modules):
        if module not in PROJECTIONS:  # PEFT passes over a name that it does not find
            yield f'"lora.target_modules": unknown layer "{module}"{_nearest(module, PROJECTIONS)}'
        elif modules.count(module) > 1:
            yield f'"lora.target_modules": "{module}" stands there twice'
    if Path(config.evaluation.data_file).name != config.evaluation.data_file:
        yield f'"evaluation.data_file": must be a file name in dataset_path, not {config.evaluation.data_file!r}'


# The top-level keys that a DeepSpeed file of this project may hold, and, for those that also stand in the run
# config, the attribute that they must agree with ("auto" always does).
_DEEPSPEED_KEYS = {
    "train_batch_size": lambda c: c.training.global_batch_size,
    "train_micro_batch_size_per_gpu": lambda c: "auto",  # a step's micro-batches are counted in tokens
    "gradient_accumulation_steps": lambda c: "auto",
    "gradient_clipping": lambda c: c.training.max_grad_norm,
    "bf16": lambda c: c.training.bf16,
    "zero_optimization": None,
    "steps_per_print": None,
    "wall_clock_breakdown": None,
    "zero_allow_untested_optimizer": None,
    "communication_data_type": None,
    "checkpoint": None,
    "comms_logger": None,
    "flops_profiler": None,
}


# Of `zero_optimization`, what goes with stages 1 and 2 and an adapter on the GPU.
_ZERO_KEYS = (
    "stage",
    "overlap_comm",
    "contiguous_gradients",
    "reduce_scatter",
    "allgather_partitions",
    "reduce_bucket_size",
    "allgather_bucket_size",
    "round_robin_gradients",
)


def _deepspeed_problems(value: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    for block in ("optimizer", "scheduler"):
        if block in value:
            yield f'"{block}": remove this block: DeepSpeed\'s would silently replace the one of the run config'
    for key in value:
        if key not in _DEEPSPEED_KEYS and key not in ("optimizer", "scheduler"):
            yield f'"{key}": unknown key{_nearest(key, _DEEPSPEED_KEYS)}'
    for key, expected in _DEEPSPEED_KEYS.items():
        if expected is None:
            continue
        if key not in value:
            if key != "train_batch_size":  # it follows from the others
                yield f'"{key}": missing; write ' + ('{"enabled": "auto"}' if key == "bf16" else '"auto"')
            continue
        actual, wanted = value[key], expected(config)
        if key == "bf16":
            if not isinstance(actual, Mapping) or set(actual) != {"enabled"}:
                yield f'"bf16": must be {{"enabled": "auto"}}, not {actual!r}'
                continue
            actual = actual["enabled"]
        if wanted == "auto" and actual != "auto":
            yield f'"{key}": write "auto", not {actual!r}: micro-batches are counted in tokens (micro_batch_tokens)'
        elif actual != "auto" and (actual != wanted or isinstance(actual, bool) != isinstance(wanted, bool)):
            yield f'"{key}": {actual!r} contradicts the run config, which says {wanted!r} (or write "auto")'
    if isinstance(value.get("checkpoint"), Mapping) and "load_universal" in value["checkpoint"]:
        yield '"checkpoint.load_universal": remove it: a resumed run sets it where the number of processes has changed'
    zero = value.get("zero_optimization")
    for key in zero if isinstance(zero, Mapping) else ():
        if key not in _ZERO_KEYS:
            yield f'"zero_optimization.{key}": unknown key{_nearest(key, _ZERO_KEYS)}'
    stage = zero.get("stage") if isinstance(zero, Mapping) else None
    if stage not in (1, 2) or isinstance(stage, bool):
        yield f'"zero_optimization.stage": must be 1 or 2, not {stage!r}'


_TYPE_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


# Keys of earlier versions, and what has taken their place.
_REPLACED = {
    "per_device_train_batch_size": "global_batch_size says how many examples a step has, micro_batch_tokens how "
    "much of it a process takes at once",
    "gradient_accumulation_steps": "a step takes as many micro-batches as micro_batch_tokens makes necessary",
    "gradient_checkpointing": "checkpointed_layers says how many layers are recomputed (null: as few as memory allows)",
    "answer_forms": "only the plain number counts as an answer; evaluate again what was evaluated with other forms, a "
    "checkpoint that records it with --config FILE",
}

# Settings that are gone, which earlier versions wrote into every config and result: the value that asks as we do now.
_GONE: dict[str, Any] = {"answer_forms": [], "merged": False}


def without_gone(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What an earlier version recorded of an evaluation, without the settings that are gone.

    Raises:
        SocratesError: it was made with one of them; ``name`` is what the message calls it.
    """
    for key, plain in _GONE.items():
        if record.get(key, plain) != plain:
            raise SocratesError(
                f'{name}: made with "{key}": {json.dumps(record[key])}, which is no longer supported; evaluate again, '
                "into another folder or with --overwrite"
            )
    return {
        key: without_gone(value, name) if isinstance(value, Mapping) else value
        for key, value in record.items()
        if key not in _GONE
    }


def _nearest_multiple(number: int, of: int) -> int:
    return max(round(number / of), 1) * of


def _nearest(key: str, valid: Collection[str]) -> str:
    if key in _REPLACED and key not in valid:
        return f"; remove it: {_REPLACED[key]}"
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    section = next((s for s, keys in _SECTION_KEYS.items() if key in keys), None)
    if section and key not in valid:
        return f'; it belongs into "{section}"'
    return f"; valid keys: {', '.join(valid)}"


_SECTION_KEYS = {
    name: {f.name for f in dataclasses.fields(cls)}
    for name, cls in (
        ("lora", LoraSettings),
        ("training", TrainingSettings),
        ("prompt", PromptSettings),
        ("decoding", DecodingSettings),
        ("evaluation", EvaluationSettings),
    )
}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _count(problems: list[str]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


class Problems:
    """The problems of one file, as they are found.

    Attributes:
        file: where they are.
    """

    def __init__(self, file: Path | str) -> None:
        self.file = file
        self._found: list[str] = []

    def __len__(self) -> int:
        """How many were found."""
        return len(self._found)

    def add(self, key: str, what: str) -> None:
        """A problem of the value at a key ("questions.support.scale")."""
        self._found.append(f'"{key}": {what}' if key else what)

    def check_keys(self, value: Mapping[str, Any], valid: Collection[str], prefix: str = "") -> None:
        """Add every key that is not valid."""
        for key in value:
            if key not in valid:
                self.add(f"{prefix}{key}", f"unknown key{nearest(key, valid)}")

    def check_present(self, value: Mapping[str, Any], keys: Collection[str], prefix: str = "") -> None:
        """Add every key that is missing."""
        for key in keys:
            if key not in value:
                self.add(f"{prefix}{key}", "missing")

    def read_object(self, value: Any, key: str, expected: str) -> Mapping[str, Any] | None:
        """The object at a key, or None after a problem; an empty one is a problem, too."""
        if isinstance(value, Mapping) and value:
            return value
        self.add(key, f"must be {expected}, not {shown(value)}")
        return None

    def read_text(self, value: Any, key: str, expected: str) -> str | None:
        """The text at a key without white space around it, or None after a problem."""
        if not isinstance(value, str) or not value.strip():
            self.add(key, f"must be {expected}, not {shown(value)}")
            return None
        if problem := text_problem(value):
            self.add(key, problem)
            return None
        return value.strip()

    def read_name(self, name: str, key: str) -> str | None:
        """What people call something, in one line, or None after a problem of the object at ``key`` that names it."""
        if not name.strip():
            self.add(key, "a name is empty")
        elif problem := text_problem(name, one_line=True):
            self.add(key, f"the name {shown(name)} {problem}")
        else:
            return name.strip()
        return None

    def raise_any(self) -> None:
        """SocratesError with all problems, a line each; nothing where there are none."""
        if self._found:
            number = "1 problem" if len(self._found) == 1 else f"{len(self._found)} problems"
            raise SocratesError("\n  ".join([f"{self.file}: {number}", *self._found]))


def text_problem(text: str, *, one_line: bool = False) -> str | None:
    """Why a text cannot be a prompt or a file's: half a character, a control character; None: it can."""
    for sign in "" if text.isprintable() else text:
        kind = unicodedata.category(sign)
        if kind == "Cs":
            return "holds half a character (\\ud800 to \\udfff)"
        if sign in "\n\r\u2028\u2029" and one_line:
            return "holds a line break"
        if kind == "Cc" and (one_line or sign not in "\n\r\t"):
            return f"holds a control character (U+{ord(sign):04X})"
    return None


def nearest(name: str, valid: Collection[str]) -> str:
    """What a wrong name may have meant, for the end of a message."""
    close = difflib.get_close_matches(name.strip().lower().replace(" ", "_"), valid, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else f"; valid: {', '.join(valid)}"


def shown(value: Any) -> str:
    """A value as a message shows it."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:57]}…"
