"""TRL's `SFTTrainer`, made to take a step as flattened micro-batches of equal tokens, with loss on answers alone.

The Trainer sees one batch a step; `training_step` runs as many micro-batches of it as the limit of tokens makes
necessary and lets DeepSpeed add up their gradients. The loss is the mean over the step's supervised tokens, those of
all processes together, so that neither their number nor how rows are shared changes it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trl import SFTTrainer

from socrates.inference.decoding import log_normalizer
from socrates.model.attention import flat_inputs
from socrates.training.batches import FlatBatch, StepData, StepLoader, TrainingSteps
from socrates.training.distributed import gather


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
        flops_a_token: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Besides what `SFTTrainer` takes: ``attention`` as `choose_attention` names it, this process's share of the
        rows that `held_out_loss` is taken on, and the operations that training on a token takes.
        """
        super().__init__(*args, **kwargs)
        self._steps, self._attention, self._held_out = steps, attention, held_out
        self._flops_a_token = flops_a_token
        self._supervised = 0  # tokens of all processes since the last line of the log
        self._correct: Tensor | float = 0.0  # of them, those that this process has predicted
        self._tokens = 0  # of all processes, since this one began
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
        for number, batch in enumerate(step.micro_batches, start=1):
            with self.compute_loss_context_manager():
                losses, hits = self._answer_losses(model, batch)
                # DeepSpeed takes the mean of the processes' gradients, the step's loss is a sum over them.
                loss = (losses.sum() * (batch.counts * processes / step.supervised_tokens)).float()
            self.accelerator.gradient_state._set_sync_gradients(number == len(step.micro_batches))
            self.accelerator.backward(loss)
            total += loss.detach()
            self._correct = self._correct + batch.counts * hits.sum()
        self._supervised += step.supervised_tokens
        self._tokens += step.tokens
        return total

    def held_out_loss(self) -> float:
        """The loss on the fixed sample, all processes' rows together; the next log line has it, too."""
        model, sums = self.model_wrapped, np.zeros(2)  # loss, tokens
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in self._held_out:
                losses, _ = self._answer_losses(model, batch)
                sums += losses.sum().item(), len(losses)
        model.train()
        loss, count = sum(gather(sums)).tolist()
        self._latest = {"eval_loss": loss / count}
        return loss / count

    def largest_loss(self) -> Tensor:
        """The loss on as large a micro-batch as a step may have: a trial of the memory."""
        with self.compute_loss_context_manager():
            return self._answer_losses(self.model, self._steps.largest())[0].sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was counted since the last line; called by every process."""
        if "loss" in logs:
            correct, peaks = zip(*gather((float(self._correct), torch.cuda.max_memory_allocated())), strict=True)
            logs |= {"mean_token_accuracy": sum(correct) / max(self._supervised, 1), "num_tokens": float(self._tokens)}
            if peak := max(peaks):  # 0 on a CPU
                logs["peak_memory_bytes"] = peak
            logs |= self._latest
            if self._flops_a_token is not None:
                logs["model_flops"] = self._flops_a_token * self._tokens
            self._supervised, self._correct, self._latest = 0, 0.0, {}
            # The Trainer takes the sum from itself to start from zero; a NaN would stay one, to the end of the run.
            if getattr(self, "_tr_loss", None) is not None:
                self._tr_loss.zero_()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """Nothing: the Trainer's own estimate knows neither frozen weights nor our batches."""
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
        device = self.args.device
        targets = batch.targets.to(device, non_blocking=True)
        logits = model(
            input_ids=batch.input_ids.to(device, non_blocking=True),
            # The head is a twentieth of the model, and the answer 2 tokens of 400.
            logits_to_keep=batch.before.to(device, non_blocking=True),
            use_cache=False,
            **flat_inputs(batch.lengths, self._attention, device),
        ).logits[0]
        logits = logits.float()  # [targets, vocabulary]
        chosen = logits.gather(1, targets[:, None])[:, 0]
        return log_normalizer(logits) - chosen, logits.argmax(-1) == targets
