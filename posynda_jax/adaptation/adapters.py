"""The trained part of a model: low-rank factors or deltas on a frozen base, and the bias by joint of Eq. 11.

    adapter = {"lora": {module/path: {"a" [in r], "b" [r out]}}, "bias": [j 3]}       # tune="lora"
    adapter = {"delta": {leaf/path: D}, "bias": [j 3]}                                # tune="full", "biases" or "norms"

A fresh adapter changes nothing: `b`, the deltas and the bias start at zero.
"""

import dataclasses
import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, PyTree

from posynda_jax.diffusion import sampler
from posynda_jax.peft import counting, deltas, lora

TUNES = ("lora", *deltas.RULES)
NUM_JOINTS = 17


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
  """What is trained. The defaults are the paper's: LoRA of rank 4 on all attention blocks, and the bias of Eq. 11.

  `tune`: "lora", or a rule of `peft.deltas.RULES` that trains base parameters in its place. `rule`: a regular
  expression on module paths that LoRA adapts; None is attention for MixSTE, the convolutions for VideoPose. Raises
  ValueError for an unknown `tune`.
  """

  tune: str = "lora"
  rank: int = 4
  scale: float = 1.0
  rule: str | None = None
  bias: bool = True

  def __post_init__(self):
    if self.tune not in TUNES:
      raise ValueError(f"tune {self.tune!r} is unknown; choose one of {', '.join(TUNES)}")


def init(key: Array, base: PyTree, config: AdapterConfig) -> PyTree:
  """An adapter that changes nothing yet. Raises ValueError as `lora.init`: for a rule or a rank that fits nothing."""
  bias = jnp.zeros((NUM_JOINTS, 3))
  if config.tune != "lora":
    return {"delta": deltas.init(base, config.tune), "bias": bias}
  return {"lora": lora.init(key, base, config.rank, config.rule or default_rule(base)), "bias": bias}


def default_rule(base: PyTree) -> str:
  """The rule of modules that LoRA adapts: attention where the base has it (MixSTE), else convolutions (VideoPose)."""
  modules = {"/".join(path[:-1]) for path in flatten_dict(base["params"])}
  return lora.ATTENTION if any(re.fullmatch(lora.ATTENTION, module) for module in modules) else lora.CONVOLUTIONS


def num_trainable(base: PyTree, config: AdapterConfig) -> int:
  """Number of parameters that the config trains on this base."""
  adapter = jax.eval_shape(lambda: init(jax.random.key(0), base, config))
  return counting.count({name: part for name, part in adapter.items() if config.bias or name != "bias"})


def make_denoiser(
    model: nn.Module, base: PyTree, adapter: PyTree | None, scale: float = 1.0, form: str = "merged",
    with_doubt: bool = False,
) -> sampler.Denoiser:
  """P_theta of Eq. 11 as `(keypoints [b f j i], noisy [b f j 3], t [b]) -> x_0 [b f j 3]`; adapter None: the bare base.

  All forms give the same numbers. "merged" folds the update into the kernels once, for inference. "layerwise" is for
  training (`lora.bind(frozen=True)`). "factorised" shares the products with the base among the members of a vmap over
  adapters. `with_doubt` returns [b f j 5] of a model that has this head.
  """
  asked = {"with_doubt": True} if with_doubt else {}
  if adapter is None:
    return functools.partial(lora.bind(model, base, None), **asked)
  if form == "merged" or "lora" not in adapter:
    denoise = lora.bind(model, merge(base, adapter, scale), None)
  else:
    denoise = lora.bind(model, base, adapter["lora"], scale, frozen=form == "layerwise")
  bias = jnp.pad(adapter["bias"], ((0, 0), (0, 2 if with_doubt else 0)))
  return lambda keypoints, noisy, t: denoise(keypoints, noisy, t, **asked) + bias


def merge(base: PyTree, adapter: PyTree, scale: float) -> PyTree:
  """The base with an adapter's low-rank update or deltas. The caller adds the bias of Eq. 11 to the output."""
  return deltas.add(lora.merge(base, adapter.get("lora", {}), scale), adapter.get("delta", {}))


def from_settings(settings: dict[str, Any]) -> AdapterConfig:
  """The config that a run folder or an adapter's file holds. Raises ValueError for settings of another version."""
  found, known = settings.get("adapter"), {field.name for field in dataclasses.fields(AdapterConfig)}
  if not isinstance(found, dict) or set(found) - known:
    raise ValueError(
        f"the adapter's settings are of another version of posynda_jax ({', '.join(sorted(found or settings))}): "
        "use the version that made it, or adapt anew"
    )
  return AdapterConfig(**found)
