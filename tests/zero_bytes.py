"""What DeepSpeed's ZeRO keeps of a small model's adapter after one backward pass and step, as JSON: bytes by kind.

A program for model/test_memory.py: one process, stage argv[1], port argv[2]. DeepSpeed cannot be taken back out of a
process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
os.environ |= {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": sys.argv[2],
}

import deepspeed  # noqa: E402
import deepspeed.ops  # noqa: E402
import torch  # noqa: E402
from adapted import SHAPES, adapted_model, lora  # noqa: E402

BUCKET = 50_000


def size(tensors: object) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if torch.is_tensor(t) and t.numel() > 1)


def main() -> None:
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled first
    model = adapted_model(SHAPES[0], lora(), "bfloat16")
    trained = [p for p in model.parameters() if p.requires_grad]
    settings = {
        "train_batch_size": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": int(sys.argv[1]), "reduce_bucket_size": BUCKET, "overlap_comm": True},
        "zero_allow_untested_optimizer": True,
    }
    engine, zero, _, _ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(trained), config=settings)
    buckets = 0
    reduce = zero.reduce_ipg_grads

    def watch(*arguments: object, **options: object) -> object:
        nonlocal buckets
        found = sum(size(bucket.buffer) for bucket in zero.ipg_buckets.values())
        buckets = max(buckets, found)
        return reduce(*arguments, **options)

    zero.reduce_ipg_grads = watch
    ids = torch.arange(64)[None]
    engine.backward(engine(input_ids=ids, labels=ids).loss)
    gradients = size(g for group in zero.averaged_gradients.values() for g in group or ())
    engine.step()
    found = {
        "adapter": size(zero.bit16_groups_flat),
        "optimizer": size(zero.single_partition_of_fp32_groups)
        + sum(size(state.values()) for state in zero.optimizer.state.values()),
        "gradients": gradients + size(p.grad for p in trained if p.grad is not None),
        "buckets": buckets,
    }
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
