"""K adaptations at once: K adapters are one pytree with a leading axis, and an update of all is a vmap of one update.

    adapters [k ...], numbers [k], seed keys [k], batches [b k ...] --adapt_step, vmapped over k--> adapters [k ...]
                                          one frozen base, unmapped --^

Members may differ in target, seed, rank (padded to the largest), rate and scale. Products with the base's kernels are
one product for all members that are computed together; only low-rank products are a member's own. Members do not
interact, so one that diverges leaves the others as they are.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.adaptation.step import AdaptState, Setting, adapt_step, init_state, make_optimizer
from posynda_jax.geometry.measured import Measured
from posynda_jax.peft import lora


def pad_rank(factors: lora.Adapter, rank: int) -> lora.Adapter:
  """The same low-rank update with zero columns of `a` and zero rows of `b`, up to `rank`.

  The gradient of each is a multiple of the other, so both stay zero. Raises ValueError for a rank below the adapter's.
  """

  def pad(a, b):
    more = rank - b.shape[0]
    if more < 0:
      raise ValueError(f"an adapter of rank {b.shape[0]} cannot be padded to {rank}: give {b.shape[0]} or more")
    return {"a": jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, more)]), "b": jnp.pad(b, [(0, more), (0, 0)])}

  return {path: pad(**ab) for path, ab in factors.items()}


def find_numbers(recipes: Sequence[Recipe]) -> dict[str, Array]:
  """`rate` and `scale` of the members, each [k]: arguments of the compiled step.

  Raises ValueError for members that one step cannot hold: other lessons or settings, deltas, lessons that learn.
  """
  if any(recipe.adapter.tune != "lora" for recipe in recipes):
    raise ValueError("a sweep stacks low-rank adapters: run members with another --tune alone")
  if any(hasattr(lesson, "init") for recipe in recipes for lesson in recipe.lessons):
    raise ValueError("a sweep does not carry what a lesson learns: run the recipe gan alone")
  shared = {dataclasses.replace(it, rate=0, adapter=dataclasses.replace(it.adapter, rank=0, scale=0)) for it in recipes}
  if len(shared) > 1:
    raise ValueError("members differ in more than rank, rate, scale, target and seed: make a sweep of each")
  numbers = {"rate": [it.rate for it in recipes], "scale": [it.adapter.scale for it in recipes]}
  return {name: jnp.array(values, jnp.float32) for name, values in numbers.items()}


def init_members(keys: Sequence[Array], base: PyTree, recipes: Sequence[Recipe], num_frames: int) -> AdaptState:
  """Fresh adapters, each drawn from its key at its own rank, padded and stacked; `step` stays one number for all."""
  rank = max(recipe.adapter.rank for recipe in recipes)
  adapters = [init_state(key, base, recipe, num_frames).adapter for key, recipe in zip(keys, recipes, strict=True)]
  adapter = stack([{**adapter, "lora": pad_rank(adapter["lora"], rank)} for adapter in adapters])
  opt_state = jax.vmap(make_optimizer(recipes[0]).init)(adapter)
  return AdaptState(jnp.zeros((), jnp.int32), adapter, opt_state, ((),) * len(recipes[0].lessons))


def stack(trees: Sequence[PyTree]) -> PyTree:
  """Trees of members as one, with the members' axis first."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(adapter: PyTree, ranks: Sequence[int]) -> list[PyTree]:
  """The adapters of all members, each cut to its own rank."""

  def one(i, rank):
    own = jax.tree.map(lambda x: x[i], adapter)
    return {**own, "lora": {path: {"a": ab["a"][..., :rank], "b": ab["b"][:rank]} for path, ab in own["lora"].items()}}

  return [one(i, rank) for i, rank in enumerate(ranks)]


def sweep_step(
    state: AdaptState, frozen: tuple[PyTree, Measured, dict[str, Array]], batch: dict, seed_keys: Array, *,
    recipe: Recipe, setting: Setting, at_once: int | None = None,
) -> tuple[AdaptState, dict[str, Array]]:
  """One update of every member on this device's share of the batches [b k ...].

  `frozen` is (base variables, what was measured of the source, numbers [k]); `seed_keys` [k]. `at_once`: members
  computed together; by default all on an accelerator, and one on a CPU, because the arrays of more do not fit its
  cache. Metrics are `NUMBER/METRIC` by member, and `loss`, the mean of those that are finite.
  """
  base, measured, numbers = frozen
  together = at_once or (1 if jax.default_backend() == "cpu" else len(numbers["rate"]))
  setting = dataclasses.replace(setting, merge=together == 1)

  def update(own):
    (adapter, opt_state), numbers, batch, seed_key = own
    before = AdaptState(state.step, adapter, opt_state, state.memory)
    own_adapter = dataclasses.replace(recipe.adapter, scale=numbers["scale"])
    its = dataclasses.replace(recipe, rate=numbers["rate"], adapter=own_adapter)
    after, metrics = adapt_step(before, (base, measured), batch, seed_key, recipe=its, setting=setting)
    return (after.adapter, after.opt_state), metrics

  batches = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), batch)
  members_own = (state.adapter, state.opt_state), numbers, batches, seed_keys
  (adapter, opt_state), metrics = jax.lax.map(update, members_own, batch_size=together if together > 1 else None)
  loss = metrics["loss"]
  named = {f"{i}/{key}": values[i] for i in range(len(loss)) for key, values in metrics.items()}
  named["loss"] = jnp.nanmean(jnp.where(jnp.isfinite(loss), loss, jnp.nan))
  return AdaptState(state.step + 1, adapter, opt_state, state.memory), named


class SweepFeed:
  """The batches of the members' feeds as one, {name: {field: [b k ...]}}."""

  def __init__(self, feeds: Sequence):
    self._feeds = feeds

  def __next__(self) -> dict:
    return jax.tree.map(lambda *leaves: np.stack(leaves, 1), *map(next, self._feeds))

  def get_state(self) -> dict[str, Any]:
    """The step of all feeds, as JSON."""
    return self._feeds[0].get_state()

  def set_state(self, state: dict[str, Any]) -> None:
    """Continues where `state` was taken."""
    for feed in self._feeds:
      feed.set_state(state)
