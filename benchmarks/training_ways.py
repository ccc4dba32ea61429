"""One way of training, measured in a process of its own: TRL's, this project's, that with one thing otherwise."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import frame
import numpy as np
from random_model import SHAPES, made_tokenizer, random_qwen2

from socrates.config import PROJECTIONS, RunConfig, load_config
from socrates.errors import SocratesError
from socrates.files import read_json, write_json
from socrates.training.batches import StepOrder

if TYPE_CHECKING:
    import torch

ANSWER_TOKENS = 2  # a digit and the end of the turn, most often
WARM_UP = 2  # steps
FULL = "out of memory"


@dataclass(frozen=True)
class Way:
    """What is done otherwise than this project does it."""

    name: str
    trl: bool = False  # by SFTTrainer
    rows_at_once: int = 8  # of SFTTrainer
    padding_free: bool = False  # of SFTTrainer
    attention: str = "auto"  # as of the config; "dense": the models library's mask with sdpa, or FlashAttention
    all_logits: bool = False  # the head on every token
    checkpointed: bool = False  # all layers are computed again backwards
    optimizer: str = "adamw_torch_fused"


THIS = Way("this project")
TRL = Way("TRL's defaults", trl=True, checkpointed=True)
WAYS = (
    THIS,
    TRL,
    replace(THIS, name="attention: sdpa, one example after another", attention="sdpa"),
    replace(THIS, name="attention: flash_attention_2", attention="flash_attention_2"),
    replace(THIS, name="attention: one dense mask", attention="dense"),
    Way("TRL's strongest: padding_free, nothing computed again", trl=True, padding_free=True),
    Way("TRL, one row at a time: no padding and no mask", trl=True, rows_at_once=1),
    replace(THIS, name="without answer logits: the head on every token", all_logits=True),
    replace(THIS, name="without saved activations: all layers computed again", checkpointed=True),
    replace(THIS, name="without the fused optimizer", optimizer="adamw_torch"),
)


@dataclass(frozen=True)
class Job:
    """What all ways do: the same rows in the same steps through the same model."""

    shape: str
    device: str
    lengths: tuple[int, ...]
    rows_a_step: int
    steps: int  # measured, after the warm-up
    micro_batch_tokens: int
    seed: int


@dataclass(frozen=True)
class Measured:
    """What a way took."""

    seconds: float  # of this process on a CPU, of the clock on a GPU
    tokens: int  # of rows
    fed_tokens: int  # that went through the model
    flops: float  # that the rows need
    peak_bytes: int  # on a CPU what training adds to the process, on a GPU all that is used of it
    estimated_bytes: int
    losses: list[float]


def attempt(way: Way, job: Job) -> Measured | str:
    """Train with a way in this process, which is its alone, since memory's peak is the process's; or why not."""
    from accelerate.utils.memory import should_reduce_batch_size

    os.dup2(2, 1)  # what the libraries print is no result
    try:
        return _run(way, job)
    except SocratesError as error:
        return " ".join(str(error).split())
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        return FULL


def _run(way: Way, job: Job) -> Measured:
    import torch

    device = frame.usable_device(job.device)
    config = run_config(job)
    attention = _attention(way, config, device)
    model = random_qwen2(job.shape, device, job.seed, attention)
    if way.all_logits:
        _keep_all_logits(model)
    clock, base = _clock(device, model), _resident_bytes()
    trainer = (_trl_trainer if way.trl else _our_trainer)(way, job, config, model, attention)
    trainer.add_callback(clock)
    trainer.train()
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        peak = total - free - torch.cuda.memory_reserved(device) + torch.cuda.max_memory_reserved(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
    lengths = job.lengths[WARM_UP * job.rows_a_step :]
    return Measured(
        seconds=clock.seconds,
        tokens=sum(lengths),
        fed_tokens=clock.fed,
        flops=training_operations(SHAPES[job.shape], config.lora.r, lengths),
        peak_bytes=peak,
        estimated_bytes=_estimate(way, config, model),
        losses=[entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    )


def run_config(job: Job) -> RunConfig:
    """The config of the full run, with this job's sizes and one process."""
    value = read_json(frame.ROOT / "config_full_dataset.json", "config")
    value["training"] |= {"num_processes": 1, "global_batch_size": job.rows_a_step}
    value["training"] |= {"micro_batch_tokens": job.micro_batch_tokens, "bf16": job.device == "cuda"}
    value["training"]["max_length"] = min(job.micro_batch_tokens, value["training"]["max_length"])
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "config.json", value)
        return load_config(Path(folder) / "config.json")


def training_operations(shape: dict[str, int], rank: int, lengths: Sequence[int]) -> float:
    """Operations that training on rows of these lengths needs, with an adapter of a rank on all projections.

    No padding, the head on answers alone, nothing computed twice, no gradient of a frozen weight or of the embedding.
    """
    hidden, inner, layers = (shape[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    keys = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    first = [(hidden, hidden), (hidden, keys), (hidden, keys)]  # queries, keys, values
    later = [(hidden, hidden), (hidden, inner), (hidden, inner), (inner, hidden)]
    seen = sum(length * (length + 1) // 2 for length in lengths)
    products = sum(a * b for a, b in first + later)
    adapter = rank * sum(a + b for a, b in first + later)
    # Forwards each weight once; backwards a frozen one once, an adapter's twice; attention's scores and values.
    layer = 2 * sum(lengths) * (2 * products + 3 * adapter) + 12 * hidden * seen
    # The embedding needs no gradient.
    spared = 2 * sum(lengths) * (sum(a * b for a, b in first) + rank * sum(a for a, _ in first))
    return layers * layer - spared + 4 * shape["vocab_size"] * hidden * ANSWER_TOKENS * len(lengths)


def _attention(way: Way, config: RunConfig, device: torch.device) -> str:
    """The models library's name of the kernel; SocratesError where it does not run here."""
    from socrates.model.attention import choose_attention
    from socrates.model.kernels import refused_settings

    auto = choose_attention("auto")
    if way.trl or way.attention == "dense":
        return auto if way.padding_free and auto == "flash_attention_2" else "sdpa"
    training = config.training.model_copy(update={"attn_implementation": way.attention})
    refused = refused_settings(config.model_copy(update={"training": training}), device.type == "cuda")
    if why := next((text for text in refused if "attn_implementation" in text), None):
        raise SocratesError(why)
    found = choose_attention(way.attention)
    if way.attention != "auto" and found == auto:
        raise SocratesError(
            f"auto takes it here: see `{THIS.name}`" if way.attention in ("sdpa", auto) else "not offered"
        )
    return found


def _clock(device: torch.device, model: Any) -> Any:
    """A callback: from the end of the warm-up on, the seconds of all steps, and the tokens that the model was fed."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        started, seconds, fed = 0.0, 0.0, 0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM_UP:
                self.started, self.fed = frame.now(device), 0
            self.seconds = frame.now(device) - self.started

    def count(module: Any, inputs: Any) -> None:
        clock.fed += inputs[0].numel()

    clock = Clock()
    model.get_input_embeddings().register_forward_pre_hook(count)
    return clock


def _keep_all_logits(model: Any) -> None:
    forward = model.forward

    def all_logits(*args: Any, logits_to_keep: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = output.logits[:, logits_to_keep]
        return output

    model.forward = all_logits


def _common(way: Way, job: Job, config: RunConfig, model: Any) -> tuple[dict[str, Any], Any]:
    """What both trainers take, and the rows."""
    from datasets import Dataset
    from peft import LoraConfig

    rng = np.random.default_rng(job.seed)
    ids = [rng.integers(model.config.vocab_size, size=length, dtype=np.int32) for length in job.lengths]
    lora = config.lora
    adapter = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(PROJECTIONS),
    )
    rows = Dataset.from_dict({"input_ids": ids, "answer_tokens": [ANSWER_TOKENS] * len(ids)})
    return {"model": model, "processing_class": made_tokenizer(), "peft_config": adapter}, rows


def _arguments(way: Way, job: Job, **more: Any) -> Any:
    from trl import SFTConfig

    cuda = job.device == "cuda"
    return SFTConfig(
        output_dir=tempfile.gettempdir(),  # nothing is saved
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        bf16=cuda,
        use_cpu=not cuda,
        seed=job.seed,
        max_steps=WARM_UP + job.steps,
        learning_rate=1e-4,
        optim=way.optimizer,
        activation_checkpointing=way.checkpointed,
        activation_checkpointing_kwargs={"use_reentrant": False},
        dataset_kwargs={"skip_prepare_dataset": True},
        **more,
    )


def _trl_trainer(way: Way, job: Job, config: RunConfig, model: Any, attention: str) -> Any:
    """SFTTrainer on the rows of a step in their order, with loss on the answers."""
    from trl import SFTTrainer

    def with_labels(row: dict[str, Any]) -> dict[str, Any]:
        ids = row["input_ids"]
        return {"labels": [-100] * (len(ids) - ANSWER_TOKENS) + ids[-ANSWER_TOKENS:]}

    common, rows = _common(way, job, config, model)
    args = _arguments(
        way,
        job,
        per_device_train_batch_size=way.rows_at_once,
        gradient_accumulation_steps=job.rows_a_step // way.rows_at_once,
        padding_free=way.padding_free,
        max_length=None,
        train_sampling_strategy="sequential",
    )
    return SFTTrainer(args=args, train_dataset=rows.map(with_labels, remove_columns=["answer_tokens"]), **common)


def _our_trainer(way: Way, job: Job, config: RunConfig, model: Any, attention: str) -> Any:
    from socrates.training.batches import TrainingSteps
    from socrates.training.setup import leave_out_compiled_cpu_kernels
    from socrates.training.trainer import AdapterTrainer

    leave_out_compiled_cpu_kernels()
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(frame.free_port())
    common, rows = _common(way, job, config, model)
    rows = rows.with_format("numpy")
    args = _arguments(
        way,
        job,
        deepspeed=_deepspeed() | {"train_batch_size": "auto"},
        per_device_train_batch_size=job.rows_a_step,
        remove_unused_columns=False,
        max_length=None,
    )
    steps = TrainingSteps(rows, _InOrder(len(rows), job.rows_a_step, job.seed), job.micro_batch_tokens)
    return AdapterTrainer(args=args, train_dataset=rows, steps=steps, attention=attention, **common)


class _InOrder(StepOrder):
    """The rows in the order that they have, so that all ways see the same ones in the same steps."""

    def rows_of(self, step: int) -> np.ndarray:
        start = (step % self.steps_per_epoch) * self.global_batch_size
        return np.arange(start, min(start + self.global_batch_size, self.rows))


def _deepspeed() -> dict[str, Any]:
    return read_json(frame.ROOT / "deepspeed_config.json", "DeepSpeed config")


def _estimate(way: Way, config: RunConfig, model: Any) -> int:
    """The memory that this project counts with."""
    from socrates.model.memory import memory_parts
    from socrates.model.sizing import ModelShape

    shape = ModelShape.from_config(model.config.to_dict())
    bucket = _deepspeed()["zero_optimization"]["reduce_bucket_size"]
    return sum(memory_parts(shape, config, shape.layers if way.checkpointed else 0, bucket).values())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
