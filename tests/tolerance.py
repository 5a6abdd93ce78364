"""How far two computations of the same numbers may be apart where compilers and CPUs choose the order of operations.

Bits are compared only where the same compiled program runs twice. Everywhere else a sum may be taken in another
order, which moves a float32 number by a few units in its last place, and an optimizer carries such a difference from
update to update.
"""

import jax
import numpy as np

_UNITS = 64  # last places that one pass may lose: a dozen layers, each a few
_UNITS_AN_UPDATE = 256  # Adam divides small gradients by their own size, so their rounding shows


def tolerance(dtype, size: int = 1, updates: int = 0) -> float:
  """Largest relative difference to expect between two computations of an array, after `updates` optimizer steps.

  The largest of its `size` rounding errors grows like the logarithm of their number; each update adds its own.
  """
  return float(np.finfo(dtype).eps * (_UNITS + _UNITS_AN_UPDATE * updates) * (1 + np.log2(max(size, 1)) / 8))


def assert_close(actual, desired, updates: int = 0, dtype=np.float32, message: str = "") -> None:
  """Asserts that two trees of arrays hold the same numbers, up to rounding, leaf by leaf.

  A leaf's differences are compared with its own largest magnitude, or with 0.1 where that is less: a sum that cancels
  to zero keeps the rounding of its terms. Raises AssertionError that names the leaf.
  """
  actual, desired = jax.tree_util.tree_leaves_with_path(actual), jax.tree_util.tree_leaves_with_path(desired)
  assert [path for path, _ in actual] == [path for path, _ in desired], f"trees of other leaves {message}"
  for (path, ours), (_, theirs) in zip(actual, desired):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    scale = np.max(np.abs(theirs), initial=0.1)
    bound = tolerance(dtype, max(ours.size, theirs.size), updates) * scale
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound, err_msg=f"{jax.tree_util.keystr(path)} {message}")
