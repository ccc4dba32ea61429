"""State conversion: a checkpoint's state for a training on another number of ranks, or without its optimizer.

On the same number of processes DeepSpeed loads the checkpoint's shards, exactly. On another number its universal form
is made of them in `.universal-…/` in the output folder, and removed once it is loaded: a checkpoint folder is never
written to. Where the shards are lost, the adapter is loaded, and the optimizer starts afresh. DeepSpeed runs whatever
code a shard names, so none reaches it that has not passed a load that allows no code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from peft import set_peft_model_state_dict
from transformers import set_seed
from transformers.trainer_pt_utils import safe_globals
from trl import SFTConfig

from socrates.checkpoint import read_manifest
from socrates.errors import SocratesError
from socrates.files import read_json, write_json
from socrates.model.load import adapter_weights
from socrates.training.distributed import errors_from_rank_zero, fail_together, on_rank_zero, rank
from socrates.training.resume import Resumption, Way
from socrates.training.trainer import AdapterTrainer

_SCRATCH = ".universal-"


@contextmanager
def loadable(resumption: Resumption | None, trainer: AdapterTrainer, output_dir: Path) -> Iterator[str | None]:
    """The folder for `trainer.train(resume_from_checkpoint=…)`, to be called by every rank around it.

    On another number of processes, DeepSpeed is told to read the universal form, for this one load.

    Raises:
        SocratesError: a shard holds more than plain values; no space for the conversion, or it failed; or the adapter
            is not of this run's layers.
    """
    if rank() == 0:
        _remove_scratch(output_dir)  # of a run that was killed
    if resumption is None:
        yield None
        return
    if resumption.way is not Way.WEIGHTS:
        on_rank_zero(lambda: refuse_code(resumption.checkpoint, resumption.step))
    if resumption.way is Way.EXACT:
        yield str(resumption.checkpoint)
        return
    settings = trainer.args.hf_deepspeed_config.config
    before = settings.get("checkpoint", {})
    if resumption.way is Way.OTHER_RANKS:
        settings["checkpoint"] = before | {"load_universal": True}
    else:
        with errors_from_rank_zero():
            loaded = set_peft_model_state_dict(trainer.model, adapter_weights(resumption.checkpoint))
        if loaded.unexpected_keys or any("lora_" in name for name in loaded.missing_keys):  # every rank meets it
            fail_together(f"{resumption.checkpoint}: its adapter is not of the layers that are trained")
        trainer.fresh_optimizer = True

    def once_loaded() -> None:
        dist.barrier()  # every rank has read it
        if rank() == 0:
            _remove_scratch(output_dir)
        settings["checkpoint"] = before  # what the new checkpoints record of the config is the config
        seed = np.random.SeedSequence([trainer.args.seed, resumption.step, rank()])  # of each rank and step its own
        set_seed(int(seed.generate_state(1)[0]))

    trainer.once_loaded = once_loaded
    try:
        yield on_rank_zero(lambda: str(_make_scratch(resumption, trainer.args, output_dir)))
    finally:
        if rank() == 0:
            _remove_scratch(output_dir)


def refuse_code(checkpoint: Path, step: int) -> None:
    """SocratesError unless all pickles that resuming loads (also where it allows code) load without any code."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler  # late: see `leave_out_compiled_cpu_kernels`
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    path = checkpoint / "latest"  # names the folder that DeepSpeed reads
    try:
        if path.read_text().strip() != f"global_step{step}":
            raise ValueError(f"is not global_step{step}")
        pickles = [checkpoint / "scheduler.pt", *checkpoint.glob("rng_state*.pth")]
        pickles += (checkpoint / f"global_step{step}").iterdir()
        with safe_globals(), torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            for path in sorted(pickles):
                torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # whatever a made-up file brings torch to raise
        raise SocratesError(
            f"{path}: not loaded: it holds other things than a training writes, and code that is among them would run; "
            "go on from another checkpoint (--resume-from-checkpoint DIR)"
        ) from error


def _remove_scratch(output_dir: Path) -> None:
    for folder in output_dir.glob(f"{_SCRATCH}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _make_scratch(resumption: Resumption, args: SFTConfig, output_dir: Path) -> Path:
    """What the Trainer reads of a checkpoint: its own state and, if it has all shards, the universal form of these."""
    checkpoint = resumption.checkpoint
    # Of this process alone: the converter of one that was killed may still be writing.
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=output_dir))
    state = read_json(checkpoint / "trainer_state.json", "trainer's state", nan_is_null=True)
    # The Trainer would warn: a process now has another share of a step.
    write_json(scratch / "trainer_state.json", {**state, "train_batch_size": args.per_device_train_batch_size})
    if resumption.way is Way.OTHER_RANKS:
        tag = f"global_step{resumption.step}_universal"
        shutil.copyfile(checkpoint / "scheduler.pt", scratch / "scheduler.pt")
        print(f"Converting the optimizer's state of {checkpoint} for {args.world_size} process(es)...", flush=True)
        _convert_shards(checkpoint, resumption.step, scratch / tag)
        (scratch / "latest_universal").write_text(tag)
    return scratch


def _convert_shards(checkpoint: Path, step: int, output: Path) -> None:
    """DeepSpeed's own converter, in a process that leaves the GPUs alone."""
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(checkpoint / f"global_step{step}"), "--output_folder", str(output)]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0 or not (output / "mp_rank_00_model_states.pt").is_file():
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise SocratesError(
            f"{checkpoint}: DeepSpeed could not convert its optimizer's state for another number of processes: "
            f"{said[-1]} ({shutil.disk_usage(output.parent).free / 1e9:.1f} GB are free there, twice its size is "
            f"needed)\non {read_manifest(checkpoint).num_processes} processes, as it was saved, it goes on as it is"
        )
