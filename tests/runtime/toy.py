"""A tiny training, whose value depends on every step before, on the batch and on the seed."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.runtime import parallel


@flax.struct.dataclass
class State:
  step: jax.Array
  value: Any


class Feed:
  """Batches [4] that hold their number."""

  def __init__(self):
    self.next = 0

  def __next__(self):
    self.next += 1
    return {"x": np.sin(np.arange(4.0) + self.next - 1)}

  def get_state(self):
    return {"next": self.next}

  def set_state(self, state):
    self.next = state["next"]


def make_step(fail_at: int = -1):
  """A step whose loss is NaN when `fail_at` steps are done."""

  def step(state, frozen, batch, seed_key):
    noise = jax.random.normal(jax.random.fold_in(seed_key, state.step))
    value = state.value + jax.lax.pmean(batch["x"].mean(), parallel.AXIS) + noise + frozen
    return State(state.step + 1, value), {"loss": jnp.where(state.step + 1 == fail_at, jnp.nan, value)}

  return step
