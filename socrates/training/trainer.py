"""TRL's `SFTTrainer`, made to take a step as flattened micro-batches of equal tokens, with loss on answers alone.

The Trainer sees one batch a step; `training_step` runs as many micro-batches of it as the limit of tokens makes
necessary and lets DeepSpeed add up their gradients. The loss is the mean over the step's supervised tokens, those of
all processes together, so that neither their number nor how rows are shared changes it.

Covers: the forward and backward passes of a step, and what is counted of it. Does not cover: saving, logging, stopping
(`callbacks.py`), and which rows a step holds (`batches.py`).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from trl import SFTTrainer

from socrates.inference.decoding import log_normalizer
from socrates.model.attention import flat_inputs
from socrates.training.batches import FlatBatch, StepData, StepLoader, TrainingSteps

if TYPE_CHECKING:
    from torch import Tensor

FlopsOf = Callable[[Sequence[int], int], float]


class AdapterTrainer(SFTTrainer):
    """See the module."""

    fresh_optimizer = False  # going on with weights that are loaded already: a checkpoint gives its step alone
    once_loaded: Callable[[], None] | None = None  # called when the state of a checkpoint is in place

    def __init__(
        self,
        *args: Any,
        steps: TrainingSteps,
        attention: str,
        held_out: tuple[FlatBatch, ...] = (),
        model_flops: FlopsOf | None = None,
        **kwargs: Any,
    ) -> None:
        """Besides what `SFTTrainer` takes.

        Args:
            args: for `SFTTrainer`.
            steps: the training set.
            attention: a name from `choose_attention`.
            held_out: this process's share of the rows that `held_out_loss` is taken on.
            model_flops: operations that training on examples takes, from their lengths and how many of their tokens
                are supervised.
            kwargs: for `SFTTrainer`.
        """
        super().__init__(*args, **kwargs)
        self._steps, self._attention, self._held_out = steps, attention, held_out
        self._model_flops = model_flops
        self._since_log: Counter[str] = Counter()  # tokens of all processes since the last line of the log
        self._correct: Tensor | float = 0.0  # of them, those that this process has predicted
        self._tokens, self._flops = 0, 0.0
        self._latest: dict[str, float] = {}

    def get_train_dataloader(self) -> StepLoader:
        """The steps; not through accelerate, which would share a step's batch among the processes once more."""
        return StepLoader(self._steps)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        source = None if self.fresh_optimizer else resume_from_checkpoint
        prepared = super()._prepare_for_training(max_steps, train_dataloader, source)
        if self.fresh_optimizer:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch: the schedule goes before the optimizer
                for _ in range(self.state.global_step):
                    self.lr_scheduler.step()
            self.model_wrapped.global_steps = self.state.global_step  # DeepSpeed names its shards' folder after it
        if self.once_loaded is not None:
            self.once_loaded()
        return prepared

    def training_step(self, model: Any, inputs: dict[str, StepData], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward over a step's micro-batches.

        Returns:
            This process's part of the step's mean loss, times the number of processes: their mean is the step's.
        """
        model.train()
        step = inputs["step"]
        processes = self.accelerator.num_processes
        total = torch.zeros((), device=self.args.device)
        correct = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(step.micro_batches, start=1):
            with self.compute_loss_context_manager():
                losses, hits = self._answer_losses(model, batch)
                # DeepSpeed takes the mean of the processes' gradients, the step's loss is a sum over them.
                loss = (losses.sum() * (batch.counts * processes / step.supervised_tokens)).float()
            self.accelerator.gradient_state._set_sync_gradients(number == len(step.micro_batches))
            self.accelerator.backward(loss)
            total += loss.detach()
            correct += batch.counts * hits.sum()
        self._count(step, correct)
        return total

    def held_out_loss(self) -> dict[str, float]:
        """The loss and the accuracy on the fixed sample, all processes' rows together, for the next log line."""
        model, was_training = self.model_wrapped, self.model_wrapped.training
        sums = torch.zeros(3, device=self.args.device, dtype=torch.float64)
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in self._held_out:
                losses, hits = self._answer_losses(model, batch)
                sums += torch.stack([losses.sum(), hits.sum(), torch.tensor(len(losses), device=sums.device)]).double()
        model.train(was_training)
        loss, correct, count = _sum_of_all(sums).tolist()
        self._latest = {"eval_loss": loss / count, "eval_mean_token_accuracy": correct / count}
        return self._latest

    def largest_loss(self) -> Tensor:
        """The loss on as large a micro-batch as a step may have: a trial of the memory."""
        with self.compute_loss_context_manager():
            return self._answer_losses(self.model, self._steps.largest())[0].sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was counted since the last line; called by every process."""
        if "loss" in logs:
            logs.update(self._take_counted())
            # The Trainer takes the sum from itself to start from zero; a NaN would stay one, to the end of the run.
            if getattr(self, "_tr_loss", None) is not None:
                self._tr_loss.zero_()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """The Trainer's own estimate is not asked for: it knows neither frozen weights nor our batches."""
        return 0

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter from rank 0's own memory.

        The Trainer's way under DeepSpeed first clones the whole state, the frozen base model included, to host
        memory on every rank: 4 x 30 GB a save for the 14B model. Under ZeRO 1 and 2 (all that the config allows)
        rank 0 holds the adapter whole.
        """
        if self.args.should_save:
            print(f"Saving model checkpoint to {output_dir or self.args.output_dir}", flush=True)
            self._save(output_dir)

    def _answer_losses(self, model: Any, batch: FlatBatch) -> tuple[Tensor, Tensor]:
        """Of each supervised token: its loss (nats, float64), and whether it was the likeliest."""
        tensors = {name: getattr(batch, name) for name in ("input_ids", "before", "targets")}
        moved = {name: tensor.to(self.args.device, non_blocking=True) for name, tensor in tensors.items()}
        batch = replace(batch, **moved)
        logits = self._logits(model, batch).float()
        chosen = logits.gather(1, batch.targets[:, None])[:, 0]
        return log_normalizer(logits) - chosen, logits.argmax(-1) == batch.targets

    def _logits(self, model: Any, batch: FlatBatch) -> Tensor:
        """[targets, vocabulary]; the head is a twentieth of the model, and the answer 2 tokens of 400."""
        return model(
            input_ids=batch.input_ids,
            logits_to_keep=batch.before,
            use_cache=False,
            **flat_inputs(batch.lengths, self._attention, self.args.device),
        ).logits[0]

    def _count(self, step: StepData, correct: Tensor) -> None:
        tokens = sum(step.lengths)
        self._since_log.update(supervised=step.supervised_tokens, rows=tokens, fed=step.fed_tokens)
        self._correct += correct
        self._tokens += tokens
        if self._model_flops is not None:
            self._flops += self._model_flops(step.lengths, step.supervised_tokens)

    def _take_counted(self) -> dict[str, float]:
        counted = self._since_log
        correct = _sum_of_all(torch.as_tensor(self._correct, device=self.args.device, dtype=torch.float64).clone())
        logs = {
            "mean_token_accuracy": correct.item() / max(counted["supervised"], 1),
            "num_tokens": float(self._tokens),
            "padding_share": 1 - counted["rows"] / counted["fed"] if counted["fed"] else 0.0,
            **self._latest,
        }
        self._since_log, self._correct, self._latest = Counter(), 0.0, {}
        if self._model_flops is not None:
            logs["model_flops"] = self._flops
        return logs


def _sum_of_all(values: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values
