"""Full-rank tuning: differences to chosen leaves of a frozen base, held in a tree of their own.

    deltas = {"spatial_0/norm1/scale": D [width]}    # zero at first, so the tuned model equals the base

Rules on the paths of leaves choose full fine-tuning, BitFit (biases only) or the norms. They compare with LoRA under
the same step, optimizer and checkpoints. This module knows nothing of poses.
"""

import re
from collections.abc import Mapping

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PyTree

Deltas = Mapping[str, Array]  # path of a leaf -> difference to it
RULES = {"full": r".*", "biases": r"(.*/)?bias", "norms": r"(.*/)?\w*norm\d*/(scale|bias)"}


def init(base: PyTree, rule: str) -> Deltas:
  """Zero deltas for each leaf whose whole path matches `rule`, a name in RULES or a regular expression.

  Raises ValueError if no leaf matches.
  """
  leaves = flatten_dict(base["params"], sep="/")
  chosen = {path: jnp.zeros_like(leaf) for path, leaf in leaves.items() if re.fullmatch(RULES.get(rule, rule), path)}
  if not chosen:
    raise ValueError(f"tuning rule {rule!r} matches no parameter; the base has {', '.join(sorted(leaves))}")
  return chosen


def add(base: PyTree, deltas: Deltas) -> PyTree:
  """The base plus its deltas. Raises ValueError for a path or shape that the base does not have."""
  params = flatten_dict(base["params"], sep="/")
  for path, delta in deltas.items():
    if path not in params or jnp.shape(params[path]) != jnp.shape(delta):
      found = jnp.shape(params[path]) if path in params else "nothing"
      raise ValueError(f"delta {path} has shape {jnp.shape(delta)}, but the base has {found} there")
    params[path] = params[path] + delta
  return {**base, "params": unflatten_dict(params, sep="/")}
