"""What DeepSpeed's shards of a checkpoint hold together, in the order of the parameters."""

import torch


def flat_state(checkpoint):
    """Returns the fp32 weights and both moments, each as one vector over all parameters; name -> shape of these, in the
    vectors' order; and each rank's state of the base optimizer.
    """
    (folder,) = checkpoint.glob("global_step*")
    (names,) = torch.load(folder / "mp_rank_00_model_states.pt", weights_only=False)["param_shapes"]
    shards = [
        torch.load(path, weights_only=False)["optimizer_state_dict"]
        for path in sorted(folder.glob("*_optim_states.pt"))
    ]
    states = [shard["base_optimizer_state"]["state"] for shard in shards]
    parts = {"fp32": [shard["single_partition_of_fp32_groups"][0] for shard in shards]}
    if all(states):
        parts |= {moment: [state[0][moment] for state in states] for moment in ("exp_avg", "exp_avg_sq")}
    size = sum(shape.numel() for shape in names.values())  # what follows is padding
    return {name: torch.cat(values)[:size] for name, values in parts.items()}, names, states


def saved_name(parameter):
    """A parameter's name in adapter_model.safetensors."""
    return parameter.replace(".default.", ".")


def flat_adapter(tensors, names):
    """An adapter's tensors as one vector in the order of the parameters."""
    assert {saved_name(name) for name in names} == set(tensors)
    return torch.cat([tensors[saved_name(name)].flatten() for name in names])
