"""Parts that human36m, mpi_inf_3dhp and threedpw share: faults, a builder, and compilation for all sequence lengths."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import tensorflow_datasets as tfds

from posynda_jax.datasets import record


class Fault(ValueError):
  """A fault of a download: `where` it is (file, then place in it), `what` is wrong, and its `fix`."""

  def __init__(self, where, what: str, fix: str = "fetch it again"):
    super().__init__(f"{where}: {what}; {fix}")
    self.where, self.what, self.fix = str(where), what, fix


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base of the builders. A subclass sets the constants without a value and yields view records."""

  HOMEPAGE: str
  LICENSE: str
  EXTRA_FEATURES: dict = {}  # fields beside those of `record.view_features`
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First release."}
  # TFDS would look for checksums of downloads with importlib_resources, which it does not require (#11212).
  url_infos = {}

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
        features=record.view_features(**self.EXTRA_FEATURES),
        homepage=self.HOMEPAGE,
        license=f"{self.LICENSE} See README.md.",
        disable_shuffling=True,  # records keep the order of sequences and cameras; the pipeline shuffles
    )


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
