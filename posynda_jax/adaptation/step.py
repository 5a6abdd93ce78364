"""Algorithm 1 as one update: a frozen base learns an unlabelled target through an adapter, taught by itself.

    target 2D --teacher (H noise samples)--> answers --+
                                                       +--> lessons --> labelled clips --> student (H = 1) --> loss (Eq. 9)
    source clips --------------------------------------+

Only the adapter is differentiated. The base enters the compiled step as an argument, with what was measured of the source.
"""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from posynda_jax.adaptation import adapters
from posynda_jax.adaptation.lessons.labelled import STUDENT, Purpose
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.adaptation.sources import render_source
from posynda_jax.adaptation.teacher import Teacher
from posynda_jax.diffusion import process
from posynda_jax.geometry import rigs, virtual_camera
from posynda_jax.runtime import parallel


@flax.struct.dataclass
class AdaptState:
  """What a resumed run needs. No leaf belongs to the base; the teacher is `adapter` as it stood before the update."""

  step: Array
  adapter: PyTree
  opt_state: Any
  memory: tuple = ()  # of each lesson: (what it learnt,) or ()


@flax.struct.dataclass
class Frozen:
  """What an update reads and never changes: the base's variables, and what was measured of the source (data, not settings)."""

  base: PyTree
  body: Float[Array, "16"]  # mean bone lengths (m) of the source's people
  view: Float[Array, "5"] | None = None  # of the virtual camera; None without one


@flax.struct.dataclass
class Setting:
  """What is compiled into the step. `chunk`: hypotheses computed at once, 0 is all; it changes memory, not results.

  `merge=False` keeps adapters factorised, for a vmap over them.
  """

  model: nn.Module = flax.struct.field(pytree_node=False)
  recipe: Recipe = flax.struct.field(pytree_node=False)
  diffusion_steps: int = flax.struct.field(pytree_node=False, default=1000)
  rig: rigs.Rig | rigs.Mixture | None = flax.struct.field(pytree_node=False, default=None)
  chunk: int = flax.struct.field(pytree_node=False, default=0)
  merge: bool = flax.struct.field(pytree_node=False, default=True)
