"""One way of training, measured in a process of its own: TRL's defaults, this project's, that with one thing off."""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from socrates.training.batches import StepOrder

if TYPE_CHECKING:
    import torch

ANSWER_TOKENS = 2  # a digit and the end of the turn, most often
WARM_UP = 2  # steps
_ZERO = {"stage": 2, "contiguous_gradients": True, "overlap_comm": True, "reduce_bucket_size": 50_000_000}
_DEEPSPEED = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    "zero_optimization": _ZERO,
    "steps_per_print": 10**9,
}


@dataclass(frozen=True)
class Way:
    """What is done otherwise than this project does it; all off is this project."""

    name: str
    trl: bool = False  # SFTTrainer as it comes
    padded: bool = False  # eight random rows at once, each as long as the longest
    all_logits: bool = False  # the head on every token
    dense_mask: bool = False  # the library's block-diagonal mask with sdpa
    all_layers_again: bool = False
    optimizer: str = "adamw_torch_fused"
    liger: bool = False


THIS = Way("this project")
TRL = Way("TRL's defaults", trl=True)
WAYS = (
    TRL,
    THIS,
    replace(THIS, name="without flattening: 8 random rows, padded", padded=True),
    replace(THIS, name="without answer logits: the head on every token", all_logits=True),
    replace(THIS, name="without attention per example: one dense mask", dense_mask=True),
    replace(THIS, name="activation checkpointing in all layers", all_layers_again=True),
    replace(THIS, name="without the fused optimizer", optimizer="adamw_torch"),
)
WITH_LIGER = replace(THIS, name="with Liger kernels", liger=True)


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
    """What a way took. Seconds: processor time on a CPU, wall clock on a GPU. Bytes: see `peak_memory`."""

    seconds: float
    tokens: int  # of rows
    fed_tokens: int  # that went through the model
    model_flops: float
    peak_bytes: int
    predicted_bytes: int | None
    layers_again: int
    losses: tuple[float, ...]


def made_up_lengths(count: int, mean: float, seed: int) -> np.ndarray:
    """Row lengths with the spread of real ones (5% 105, median 170, 95% 339, most 488 where the mean is 193)."""
    quantiles = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    real = np.interp((np.arange(count) + 0.5) / count, quantiles, (105, 118, 142, 170, 225, 339, 488))
    lengths = (real * (mean / real.mean())).round().astype(int)
    return np.random.default_rng(seed).permutation(lengths)


def run_way(way: Way, job: Job) -> Measured:
    """Train with a way in this process; to be called once a process, since memory's peak is the process's."""
    import torch

    device = torch.device(job.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    model = _model(way, job, device)
    rows = _rows(job, model.config.vocab_size)
    clock, base = _Clock(device), resident_bytes()
    again = _layers_again(way, job, model)
    trainer = _trl_trainer(job, model, rows, clock) if way.trl else _our_trainer(way, job, model, rows, clock, again)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer.train()
    peak = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else peak_resident_bytes() - base
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    measured = range(WARM_UP * job.rows_a_step, (WARM_UP + job.steps) * job.rows_a_step)
    lengths = [job.lengths[row] for row in measured]
    return Measured(
        seconds=clock.seconds,
        tokens=sum(lengths),
        fed_tokens=_fed(way, job, lengths),
        model_flops=_flops(job, lengths),
        peak_bytes=peak,
        predicted_bytes=None if way.trl or device.type == "cpu" else _predicted(job, model, again),
        layers_again=again,
        losses=tuple(losses),
    )


class _Clock:
    """Starts when the warm-up is over, and says how long all later steps took."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._started, self.seconds = device, 0.0, 0.0

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Clock(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == WARM_UP:
                    clock._started = clock._now()
                clock.seconds = clock._now() - clock._started

        return Clock()

    def _now(self) -> float:
        import torch

        if self._device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _model(way: Way, job: Job, device: torch.device) -> Any:
    import torch
    from answer_model import SHAPES
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from socrates.model.attention import choose_attention
    from socrates.model.kernels import use_liger_kernels

    torch.manual_seed(job.seed)
    config = Qwen2Config(max_position_embeddings=4096, tie_word_embeddings=False, **SHAPES[job.shape])
    plain = way.trl or way.dense_mask or way.padded
    config._attn_implementation = "sdpa" if plain else choose_attention("auto")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    try:
        with device:
            model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(default)
    if way.liger:
        use_liger_kernels(model)
    return model


def _rows(job: Job, vocabulary: int) -> Any:
    from datasets import Dataset

    rng = np.random.default_rng(job.seed)
    ids = [rng.integers(vocabulary, size=length, dtype=np.int32) for length in job.lengths]
    return Dataset.from_dict({"input_ids": ids, "answer_tokens": [ANSWER_TOKENS] * len(ids)})


def _lora() -> Any:
    from peft import LoraConfig

    from socrates.config import PROJECTIONS

    return LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.05, target_modules=list(PROJECTIONS))


def _arguments(job: Job, **more: Any) -> Any:
    from trl import SFTConfig

    cuda = job.device.startswith("cuda")
    common = {"bf16": cuda, "use_cpu": not cuda, "save_strategy": "no", "report_to": "none", "seed": job.seed}
    common |= {"max_steps": WARM_UP + job.steps, "logging_steps": 1, "learning_rate": 1e-4, "disable_tqdm": True}
    return SFTConfig(output_dir=os.environ["BENCH_FOLDER"], **common, **more)


def _trl_trainer(job: Job, model: Any, rows: Any, clock: _Clock) -> Any:
    """As it comes: its batch size of 8, its padding, its recomputation; the examples of a step are made the same."""
    from trl import SFTTrainer

    def with_labels(row: dict[str, Any]) -> dict[str, Any]:
        ids = row["input_ids"]
        return {"labels": [-100] * (len(ids) - ANSWER_TOKENS) + ids[-ANSWER_TOKENS:]}

    return SFTTrainer(
        model=model,
        args=_arguments(
            job,
            gradient_accumulation_steps=max(1, job.rows_a_step // 8),
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=rows.map(with_labels, remove_columns=["answer_tokens"]),
        processing_class=_tokenizer(),
        peft_config=_lora(),
        callbacks=[clock.callback()],
    )


def _our_trainer(way: Way, job: Job, model: Any, rows: Any, clock: _Clock, again: int) -> Any:
    from socrates.training.batches import TrainingSteps
    from socrates.training.callbacks import BeforeTraining
    from socrates.training.setup import leave_out_compiled_cpu_kernels

    leave_out_compiled_cpu_kernels()
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(_free_port())
    args = _arguments(
        job,
        deepspeed=_DEEPSPEED,
        per_device_train_batch_size=job.rows_a_step,
        activation_checkpointing=again > 0,
        activation_checkpointing_kwargs={"use_reentrant": False},
        optim=way.optimizer,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
    )
    rows = rows.with_format("numpy")
    attention = model.config._attn_implementation
    trainer = _trainer_class(way)(
        model=model,
        args=args,
        train_dataset=rows,
        processing_class=_tokenizer(),
        peft_config=_lora(),
        steps=(_eights_class() if way.padded else TrainingSteps)(
            rows, _InOrder(len(rows), job.rows_a_step, job.seed), job.micro_batch_tokens
        ),
        attention=attention,
    )
    if not way.padded:
        trainer.add_callback(BeforeTraining(trainer, attention, again))
    trainer.add_callback(clock.callback())
    return trainer


class _InOrder(StepOrder):
    """The rows in the order that they have, so that all ways see the same ones in the same steps."""

    def rows_of(self, step: int) -> np.ndarray:
        start = (step % self.steps_per_epoch) * self.global_batch_size
        return np.arange(start, min(start + self.global_batch_size, self.rows))


def _trainer_class(way: Way) -> type:
    from socrates.model.attention import flat_inputs
    from socrates.training.batches import FlatBatch
    from socrates.training.trainer import AdapterTrainer

    class AllLogits(AdapterTrainer):
        def _logits(self, model: Any, batch: FlatBatch) -> Any:
            inputs = flat_inputs(batch.lengths, self._attention, self.args.device)
            return model(input_ids=batch.input_ids, use_cache=False, **inputs).logits[0, batch.before]

    class Padded(AdapterTrainer):
        def _logits(self, model: Any, batch: FlatBatch) -> Any:
            import torch

            parts = batch.input_ids[0].split(list(batch.lengths))
            ids = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
            lengths = torch.tensor(batch.lengths, device=ids.device)
            mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
            ends = lengths.cumsum(0)
            row = torch.bucketize(batch.before, ends, right=True)
            keep = torch.zeros_like(mask)
            keep[row, batch.before - (ends - lengths)[row]] = True
            return model(input_ids=ids, attention_mask=mask.long(), logits_to_keep=keep, use_cache=False).logits

    return Padded if way.padded else AllLogits if way.all_logits else AdapterTrainer


def _eights_class() -> type:
    from socrates.training.batches import StepData, TrainingSteps, flatten

    class Eights(TrainingSteps):
        def __getitem__(self, step: int) -> StepData:
            rows = self.order.rows_of(step)
            eights = [self._read(rows[start : start + 8]) for start in range(0, len(rows), 8)]
            return replace(super().__getitem__(step), micro_batches=tuple(map(flatten, eights)))

    return Eights


def _layers_again(way: Way, job: Job, model: Any) -> int:
    import torch

    if way.all_layers_again or way.trl:
        return model.config.num_hidden_layers
    if job.device == "cpu":
        return 0
    from socrates.model.memory import layers_to_checkpoint

    shape, lora, settings = _memory_settings(job, model, way)
    memory = torch.cuda.get_device_properties(0).total_memory
    layers = layers_to_checkpoint(shape, lora, settings, memory)
    return model.config.num_hidden_layers if layers is None else layers


def _memory_settings(job: Job, model: Any, way: Way = THIS) -> Any:
    from socrates.config import LoraSettings
    from socrates.model.memory import MemorySettings
    from socrates.model.sizing import ModelShape

    tokens = job.micro_batch_tokens
    settings = MemorySettings(
        tokens=tokens,
        answer_tokens=max(1, tokens * ANSWER_TOKENS // min(job.lengths)),
        ranks=1,
        bucket_elements=_ZERO["reduce_bucket_size"],
        overlap=_ZERO["overlap_comm"],
        bf16=job.device != "cpu",
        liger=way.liger,
        dense_mask=way.dense_mask,
    )
    return ModelShape.from_config(model.config.to_dict()), LoraSettings(r=16, alpha=32, dropout=0.05), settings


def _predicted(job: Job, model: Any, again: int) -> int:
    from socrates.model.memory import ASSUMED_CONTEXT_BYTES, memory_prediction

    return memory_prediction(*_memory_settings(job, model), again).total - ASSUMED_CONTEXT_BYTES


def _flops(job: Job, lengths: Sequence[int]) -> float:
    from answer_model import SHAPES

    from socrates.config import LoraSettings
    from socrates.model.sizing import ModelShape, attended_pairs, training_flops

    return training_flops(
        ModelShape.from_config(SHAPES[job.shape]),
        LoraSettings(r=16, alpha=32, dropout=0.05),
        sum(lengths),
        attended=attended_pairs(lengths),
        answer_tokens=ANSWER_TOKENS * len(lengths),
    ).model


def _fed(way: Way, job: Job, lengths: Sequence[int]) -> int:
    if not (way.trl or way.padded):
        return sum(lengths)
    batches = [lengths[start : start + 8] for start in range(0, len(lengths), 8)]
    return sum(max(batch) * len(batch) for batch in batches)


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(os.environ["BENCH_TOKENIZER"])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def resident_bytes() -> int:
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes() -> int:
    """The most that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":  # a process of bench_training.py
    request = json.load(sys.stdin)
    job = Job(**{**request["job"], "lengths": tuple(request["job"]["lengths"])})
    print("MEASURED " + json.dumps(asdict(run_way(Way(**request["way"]), job))))
