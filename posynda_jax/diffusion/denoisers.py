"""The denoisers by name, and a model from the config that a base is saved with."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.diffusion.videopose import VideoPose

DENOISERS = {"mixste": MixSTE, "videopose": VideoPose}


def make_model(config: Mapping[str, Any]) -> nn.Module:
  """The denoiser of `config`: its fields, and its name under `denoiser` (`mixste` when absent).

  Raises ValueError that lists the choices for an unknown name or field.
  """
  fields = dict(config)
  name = fields.pop("denoiser", "mixste")
  if name not in DENOISERS:
    raise ValueError(f"denoiser {name!r} is unknown; choose one of {', '.join(DENOISERS)}")
  known = {field.name for field in dataclasses.fields(DENOISERS[name])} - {"parent", "name", "axis_name"}
  if unknown := sorted(set(fields) - known):
    raise ValueError(f"model config has {', '.join(unknown)}, which {name} does not; it has {', '.join(sorted(known))}")
  if "dtype" in fields:
    fields["dtype"] = jnp.dtype(fields["dtype"])
  if "filter_widths" in fields:
    fields["filter_widths"] = tuple(fields["filter_widths"])
  return DENOISERS[name](**fields)
