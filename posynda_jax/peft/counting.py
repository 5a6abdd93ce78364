"""The cost of a model and its adapter: numbers of parameters and FLOPs of linear layers."""

import math
import re
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from posynda_jax.peft.lora import Adapter


def count(tree: PyTree) -> int:
  """Number of parameters in a tree, for example a base, an adapter or an optimizer's moments."""
  return sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(tree))


def linear_flops(model: nn.Module, base: PyTree, adapter: Adapter, *args, skip: str = r"time_\w+") -> int:
  """FLOPs of the Dense and Conv layers, with factorised adapters, in one call of `model` on `args`: 2 a multiply-add.

  Nothing is computed: base, adapter and args may be `jax.ShapeDtypeStruct`. The products inside attention, norms and
  activations do not count, nor do layers whose path matches `skip` (the time embedding). This gives the digits of
  Table 3.
  """
  total = 0

  def interceptor(call: Callable, args, kwargs, context):
    nonlocal total
    y, layer = call(*args, **kwargs), context.module
    path = "/".join(layer.path)
    if context.method_name == "__call__" and isinstance(layer, (nn.Dense, nn.Conv)) and not re.fullmatch(skip, path):
      window = layer.kernel_size if isinstance(layer, nn.Conv) else ()
      inside, outside = args[0].shape[-1] * math.prod(window), y.shape[-1]
      rank = adapter[path]["b"].shape[0] if path in adapter else 0
      total += 2 * (y.size // outside) * (inside * outside + rank * (inside + outside))
    return y

  with nn.intercept_methods(interceptor):
    jax.eval_shape(model.apply, base, *args)
  return total
