"""Tuning without low-rank factors: what is added to chosen leaves of a frozen base, as a tree apart from it.

    deltas = {"spatial_0/norm1/scale": D [width]}    # zero at first, so that the tuned model equals the base

Full fine-tuning, BitFit (biases alone) and tuning of the norms are rules on the leaves' paths, to be compared with LoRA under the
same step, optimizer and checkpoints. Nothing here is about poses.
"""

import math
import re
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PyTree

from posynda_jax.peft import lora

Deltas = Mapping[str, Array]  # path of a leaf -> what is added to it
RULES = {"full": r".*", "biases": r"(.*/)?bias", "norms": r"(.*/)?\w*norm\d*/(scale|bias)"}


def init(base: PyTree, rule: str) -> Deltas:
  """Zeros for every leaf whose whole path matches `rule`, a name of RULES or a regular expression. Raises ValueError for none."""
  leaves = {"/".join(path): leaf for path, leaf in flatten_dict(base["params"]).items()}
  chosen = {path: jnp.zeros_like(leaf) for path, leaf in leaves.items() if re.fullmatch(RULES.get(rule, rule), path)}
  if not chosen:
    raise ValueError(f"tuning rule {rule!r} matches no parameter; the base has {', '.join(sorted(leaves))}")
  return chosen


def add(base: PyTree, deltas: Deltas) -> PyTree:
  """The base with its deltas added. Raises ValueError for a path or shape that the base does not have."""
  params = flatten_dict(base["params"])
  for path, delta in deltas.items():
    address = tuple(path.split("/"))
    if address not in params or jnp.shape(params[address]) != jnp.shape(delta):
      found = jnp.shape(params[address]) if address in params else "nothing"
      raise ValueError(f"delta {path} has shape {jnp.shape(delta)}, the base has {found} there: they do not belong together")
    params[address] = params[address] + delta
  return {**base, "params": unflatten_dict(params)}


def linear_flops(model: nn.Module, base: PyTree, adapter: lora.Adapter, *args, skip: str = r"time_\w+") -> int:
  """FLOPs, 2 a multiply-add, of the Dense and Conv layers in one call of `model` on `args`, factorised adapters included.

  Nothing is computed: base, adapter and args may be shapes (`jax.ShapeDtypeStruct`). Attention's own products, norms and
  activations are not counted, nor are layers whose path matches `skip` (the embedding of t, one token a clip): so one gets the
  digits of the paper's Table 3.
  """
  total = 0

  def interceptor(call: Callable, args, kwargs, context):
    nonlocal total
    y, layer = call(*args, **kwargs), context.module
    if context.method_name == "__call__" and isinstance(layer, (nn.Dense, nn.Conv)) and not re.fullmatch(skip, path := "/".join(layer.path)):
      window = layer.kernel_size if isinstance(layer, nn.Conv) else ()
      inside, outside = args[0].shape[-1] * math.prod(window), y.shape[-1]
      factors = adapter.get(path)
      narrow = factors["b"].shape[0] * (inside + outside) if factors else 0
      total += 2 * (y.size // outside) * (inside * outside + narrow)
    return y

  with nn.intercept_methods(interceptor):
    jax.eval_shape(model.apply, base, *args)
  return total
