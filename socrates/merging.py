"""An adapter's weights into its base model's weights, and the proof that the model still says the same.

Covers: every layer's output is compared with the unmerged layer's, then the whole model's; what half precision loses
of a small adapter is noticed. Does not cover: writing a merged model to disk.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from socrates.errors import LIBRARY_ERRORS, SocratesError, first_line
from socrates.prompts import prompt_token_ids

if TYPE_CHECKING:
    import torch

    from socrates.models import LoadedModel

UNMERGED = "evaluate without --merge"
_PROBES = (  # cut to the same length
    "You are a survey respondent, a woman of 34 with a college degree who lives in a small town and votes in most "
    "elections. How warm do you feel about the library in your town? Only return an integer from 0 to 100.",
    "- Age: 71\n- Gender: Male\n- Income: $20,000 to $29,999\n- Religion: none\n\nThe government should do more to "
    "help people who have lost their work. 1 = strongly disagree, 7 = strongly agree. Answer with one number only.",
    "A ship is late because of bad weather, and its owner does not pay the 250 passengers back. In your opinion, how "
    "fair is that? Think of what you would expect yourself, then choose a value between -3 and 3, nothing else.",
)
# When a merged model is taken for the same model, and how that was measured: random Qwen2 models of 2 to 48 layers,
# 64 to 2,048 wide, weights of spread 0.02 to 0.2, adapters whose changes to a weight are 1e-5 to 0.3 of its size.
#
# Layer by layer, on the probes in float32: the share of the adapter's contribution that merging put into the weight. It
# does not depend on depth. Found: 1.000 +- 0.001 in float32; in half precision 1.00 +- 0.07 where the changes are
# larger than the spacing of the numbers. Merged twice it is 2, skipped 0, with half the scale 0.5. Changes smaller
# than the spacing are lost, not blurred: of an adapter of 0.001 of the weights' size, bfloat16 keeps 0.53; 0.002, 0.81;
# 0.004, 0.97. That much is a different model, so it is refused as well.
_KEPT_TOLERANCE = 0.1  # of the share over all layers, each weighted by what its adapter contributes
_LAYER_TOLERANCE = 0.25  # of one layer's share, unless it differs by no more than its dtype's spacing
# The whole model's logits, centred: they may differ by a part of what the adapter changes, and by what rounding alone
# does. Of the logits' size that was at most 6e-6 in float32, 0.013 in float16, 0.10 in bfloat16, all at 24 layers of
# spread 0.2, which magnify every error; else 1e-6, 0.003 and 0.03. It grows little with depth (24 to 48: by a third).
_CHANGE_TOLERANCE = 0.25
_ROUNDING = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.25}


def merge_adapter(loaded: LoadedModel) -> LoadedModel:
    """Add a loaded adapter's weights into its base model's, in place, and compare with the unmerged model.

    Needs memory for one more layer in float32. Whether it raises or not, ``loaded`` is not to be used any more.

    Raises:
        SocratesError: the adapter cannot be merged, or the merged model says something else (`_KEPT_TOLERANCE`).
    """
    import torch

    ids = _probe_ids(loaded)
    with torch.inference_mode():
        unmerged = _probe_logits(loaded, ids)
        with loaded.model.disable_adapter():
            base = _probe_logits(loaded, ids)
    _check_not_tied(loaded)
    try:
        layers = _merge_layers(loaded, ids)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each layer, that it is merged already
            model = loaded.model.merge_and_unload(safe_merge=True)
    except torch.OutOfMemoryError as error:
        raise SocratesError(f"{loaded.adapter}: no memory left to merge the adapter; {UNMERGED}") from error
    except (*LIBRARY_ERRORS, AttributeError) as error:
        raise SocratesError(
            f"{loaded.adapter}: the adapter cannot be merged: {first_line(error)}; {UNMERGED}"
        ) from error
    merged = replace(loaded, model=model, merged=True)
    _check_layers(merged, layers)
    with torch.inference_mode():
        _check_logits(merged, _probe_logits(merged, ids), unmerged, base)
    return merged


@dataclass(frozen=True)
class _MergedLayer:
    """One layer's outputs on the probes: what merging made of what the adapter contributes."""

    name: str
    kept: float  # share of the contribution that the merged layer has; 1 is right
    contribution: float  # L2 norm relative to the output's
    difference: float  # of merged and unmerged, likewise


def _merge_layers(loaded: LoadedModel, ids: torch.Tensor) -> list[_MergedLayer]:
    """Merge each adapted layer as the probes pass through it; what they meet further on is still unmerged.

    No second copy of the weights is needed for the comparison, and no layer's error blurs another's.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[_MergedLayer] = []

    def merge(name: str, module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        if module.merged:  # a layer that is used twice
            return
        inputs = tuple(x.float() if torch.is_tensor(x) and x.is_floating_point() else x for x in inputs)
        exact = _in_float32(module)
        unmerged = exact.forward(*inputs, **options)  # not __call__, which would come here again
        base = exact.get_base_layer()(*inputs, **options)
        del exact  # one copy of a layer at a time
        module.merge(safe_merge=True)
        merged = _in_float32(module.get_base_layer())(*inputs, **options)
        contribution, size = unmerged - base, float(unmerged.norm()) or 1.0
        if not contribution.any() and torch.equal(merged, base):
            return
        layers.append(
            _MergedLayer(
                name=name,
                kept=float(((merged - base) * contribution).sum() / contribution.square().sum()),
                contribution=float(contribution.norm()) / size,
                difference=float((merged - unmerged).norm()) / size,
            )
        )

    def hook(name: str) -> Any:
        return lambda module, inputs, options, output: merge(name, module, inputs, options)

    handles = [
        module.register_forward_hook(hook(name), with_kwargs=True)
        for name, module in loaded.causal_lm.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    try:
        with torch.no_grad():  # not inference mode: it would mark the new weights for ever
            loaded.model(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return layers


def _in_float32(module: Any) -> Any:
    """A copy of a layer."""
    return copy.deepcopy(module).float()


def _check_layers(merged: LoadedModel, layers: list[_MergedLayer]) -> None:
    import torch

    if not layers:  # only whole modules were trained (modules_to_save); the logits tell
        return
    dtype = merged.causal_lm.dtype
    name = str(dtype).removeprefix("torch.")
    weight = sum(layer.contribution**2 for layer in layers)
    kept = sum(layer.kept * layer.contribution**2 for layer in layers) / weight if weight else float("nan")
    if not abs(kept - 1) <= _KEPT_TOLERANCE:  # NaN too
        cause = "" if dtype == torch.float32 else f" (changes too small for {name} are lost in it; float32 keeps them)"
        raise SocratesError(
            f"{merged.adapter}: the merged model has {kept:.0%} of what the adapter contributes, "
            f"expected 100%{cause}; {UNMERGED}"
        )
    for layer in layers:
        if not (abs(layer.kept - 1) <= _LAYER_TOLERANCE or layer.difference <= torch.finfo(dtype).eps):
            raise SocratesError(
                f"{merged.adapter}: the merged model has {layer.kept:.0%} of what the adapter contributes to "
                f"{layer.name}, expected 100% (its output differs by {layer.difference:.2g}); {UNMERGED}"
            )


def _check_logits(merged: LoadedModel, found: torch.Tensor, unmerged: torch.Tensor, base: torch.Tensor) -> None:
    """Compare (positions, vocabulary) logits, each position centred: softmax does not see a shift."""
    found, unmerged, base = (logits - logits.mean(dim=-1, keepdim=True) for logits in (found, unmerged, base))
    size = float(unmerged.norm())
    difference, change = float((found - unmerged).norm()) / size, float((base - unmerged).norm()) / size
    dtype = str(merged.causal_lm.dtype).removeprefix("torch.")
    allowed = _CHANGE_TOLERANCE * change + _ROUNDING.get(dtype, _ROUNDING["bfloat16"])
    if not difference <= allowed:  # NaN too
        moved = float((found.softmax(dim=-1) - unmerged.softmax(dim=-1)).abs().sum(dim=-1).mean()) / 2
        raise SocratesError(
            f"{merged.adapter}: the merged model says something else than the unmerged one: its logits differ by "
            f"{difference:.2g} (allowed {allowed:.2g}; the adapter changes them by {change:.2g}), which moves "
            f"{moved:.2g} of the probability of the next token; {UNMERGED}"
        )


def _check_not_tied(loaded: LoadedModel) -> None:
    """Where embedding and head are one weight, a change merged into one of them changes both."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = loaded.causal_lm
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if model.config.tie_word_embeddings and any(isinstance(layer, BaseTunerLayer) for layer in ends):
        raise SocratesError(
            f"{loaded.adapter}: the adapter cannot be merged: it changes one of embedding and output layer, which "
            f"share their weights in {loaded.base_name}; {UNMERGED}"
        )


def _probe_ids(loaded: LoadedModel) -> torch.Tensor:
    import torch

    prompts = prompt_token_ids(loaded.tokenizer, list(_PROBES), None)
    length = min(map(len, prompts))
    return torch.tensor([prompt[:length] for prompt in prompts], device=loaded.device)


def _probe_logits(loaded: LoadedModel, ids: torch.Tensor) -> torch.Tensor:
    return loaded.model(input_ids=ids, use_cache=False).logits.float().flatten(0, 1)
