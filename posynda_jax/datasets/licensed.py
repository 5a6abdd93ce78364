"""Parts that human36m, mpi_inf_3dhp, threedpw and their checks share: faults, and compilation for all lengths."""

import functools
from collections.abc import Callable

import jax
import numpy as np


class Fault(ValueError):
  """A fault of a download: `where` it is (file, then place in it), `what` is wrong, and its `fix`."""

  def __init__(self, where, what: str, fix: str = "fetch it again"):
    super().__init__(f"{where}: {what}; {fix}")
    self.where, self.what, self.fix = str(where), what, fix


def compiled_per_length(function: Callable) -> Callable:
  """`function(frames [t ...], *others)` compiled once for all t up to the next power of two.

  Outputs are NumPy arrays whose first axis is t. The input is padded with ones.
  """
  compiled = jax.jit(function)

  @functools.wraps(function)
  def padded(frames, *others):
    length = 1 << max(len(frames) - 1, 63).bit_length()
    full = np.ones((length, *frames.shape[1:]), np.float32)
    full[: len(frames)] = frames
    return jax.tree.map(lambda output: np.asarray(output)[: len(frames)], compiled(full, *others))

  return padded
