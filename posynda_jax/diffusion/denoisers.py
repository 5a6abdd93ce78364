"""The registry of denoisers, and the model of a saved config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.diffusion.videopose import VideoPose

DENOISERS = {"mixste": MixSTE, "videopose": VideoPose}
_CONVERT = {"dtype": jnp.dtype, "filter_widths": tuple}  # JSON holds a name and a list


def make_model(config: Mapping[str, Any]) -> nn.Module:
  """The denoiser that `config` describes: its name under `denoiser` (default `mixste`) and its fields.

  Raises ValueError that lists the choices for an unknown name or field.
  """
  fields = dict(config)
  name = fields.pop("denoiser", "mixste")
  if name not in DENOISERS:
    raise ValueError(f"denoiser {name!r} is unknown; choose one of {', '.join(DENOISERS)}")
  known = {field.name for field in dataclasses.fields(DENOISERS[name])} - {"parent", "name", "axis_name"}
  if unknown := sorted(set(fields) - known):
    raise ValueError(f"model config has {', '.join(unknown)}, which {name} does not; it has {', '.join(sorted(known))}")
  return DENOISERS[name](**{key: _CONVERT[key](value) if key in _CONVERT else value for key, value in fields.items()})
