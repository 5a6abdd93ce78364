"""K adaptations at once: an adapter is a pytree, so K of them are one pytree with a leading axis, and a step of all is a vmap.

    adapters [k ...], settings [k], seed keys [k], batches [b k ...] --adapt_step, vmapped over k--> adapters [k ...]
                                           one frozen base, unmapped --^

Members may differ in target, seed, rank (padded to the largest) and in the numbers of NUMBERS. Of the members that are computed
at once, a product with a kernel of the base is one product for all rows; only the low-rank ones are a member's own. No member
sees another: each gets the updates that `adapt_step` alone would give it, and one that diverges harms itself only.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from posynda_jax.adaptation import adapt
from posynda_jax.data import pipeline
from posynda_jax.peft import lora

NUMBERS = ("learning_rate", "scale", "pseudo_weight", "teacher_ema", "tilt_deg")  # fields of AdaptConfig that can be traced


def pad_rank(factors: lora.Adapter, rank: int) -> lora.Adapter:
  """The same low-rank update with zero columns of `a` and zero rows of `b`, up to `rank`.

  The gradient of each of them is a multiple of the other, so that both stay zero. Raises ValueError for a rank below the
  adapter's own.
  """

  def pad(a, b):
    more = rank - b.shape[0]
    if more < 0:
      raise ValueError(f"an adapter of rank {b.shape[0]} cannot be padded to {rank}: give {b.shape[0]} or more")
    return {"a": jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, more)]), "b": jnp.pad(b, [(0, more), (0, 0)])}

  return {path: pad(**ab) for path, ab in factors.items()}


def cut_rank(factors: lora.Adapter, rank: int) -> lora.Adapter:
  """The first `rank` of a padded adapter: what was padded."""
  return {path: {"a": ab["a"][..., :rank], "b": ab["b"][:rank]} for path, ab in factors.items()}


def settings(configs: Sequence[adapt.AdaptConfig]) -> dict[str, Array]:
  """The numbers in which members differ, each [k]: arguments of the compiled step.

  Raises ValueError that names the field where members differ in what one compiled step cannot vary.
  """
  if tunes := {config.tune for config in configs} - {"lora"}:
    raise ValueError(f"members have tune={', '.join(sorted(tunes))}: a sweep stacks low-rank adapters, run others alone")
  if any(config.adversarial_rate for config in configs):
    raise ValueError("members have adversarial_rate, whose players a sweep does not carry: run them alone")
  different = lambda name: len({getattr(config, name) for config in configs}) > 1
  for field in dataclasses.fields(adapt.AdaptConfig):
    if field.name not in ("rank", *NUMBERS) and different(field.name):
      values = ", ".join(sorted({str(getattr(config, field.name)) for config in configs}))
      raise ValueError(f"members differ in {field.name} ({values}): one step can vary rank, {', '.join(NUMBERS)}")
  return {name: jnp.array([getattr(config, name) for config in configs], jnp.float32) for name in NUMBERS if different(name)}


def init_state(keys: Sequence[Array], base: PyTree, configs: Sequence[adapt.AdaptConfig]) -> adapt.AdaptState:
  """Fresh adapters, each drawn from its key at its own rank, padded and stacked; `step` stays one number for all."""
  rank = max(config.rank for config in configs)
  adapters = [adapt.init_adapter(key, base, config) for key, config in zip(keys, configs, strict=True)]
  adapter = stack([{**adapter, "lora": pad_rank(adapter["lora"], rank)} for adapter in adapters])
  opt_state = jax.vmap(adapt.make_optimizer(configs[0]).init)(adapter)
  return adapt.AdaptState(jnp.zeros((), jnp.int32), adapter, jax.tree.map(jnp.copy, adapter), opt_state)


def stack(trees: Sequence[PyTree]) -> PyTree:
  """Trees of members as one, the members first."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(adapter: PyTree, ranks: Sequence[int]) -> list[PyTree]:
  """The adapters of all members, each at its own rank."""
  each = [jax.tree.map(lambda x: x[i], adapter) for i in range(len(ranks))]
  return [{**one, "lora": cut_rank(one["lora"], rank)} for one, rank in zip(each, ranks, strict=True)]


def sweep_step(
    state: adapt.AdaptState, frozen: tuple[PyTree, dict[str, Array]], batch: dict, seed_keys: Array, *, model,
    config: adapt.AdaptConfig, rig, names: Sequence[str], at_once: int | None = None,
) -> tuple[adapt.AdaptState, dict[str, Array]]:
  """One update of every member on this device's share of the batches [b k ...].

  `frozen` is (base, settings), whose [k] stand in for fields of `config`; `seed_keys` [k]. `at_once` members are vmapped, and
  such groups follow one another: by default all on an accelerator, one on a CPU, whose cache the arrays of more would leave.
  Scalars are `<name>/<scalar>` by member, and `loss`, the mean of those that are finite.
  """
  base, numbers = frozen
  at_once = at_once or (1 if jax.default_backend() == "cpu" else len(names))

  def member(own):
    (adapter, teacher, opt_state), numbers, batch, seed_key = own
    settled = dataclasses.replace(config, **numbers)
    before = adapt.AdaptState(state.step, adapter, teacher, opt_state)
    after, scalars = adapt.adapt_step(
        before, base, batch, seed_key, model=model, config=settled, rig=rig, tx=adapt.make_optimizer(settled), merge=at_once == 1
    )
    return (after.adapter, after.teacher, after.opt_state), scalars

  batches = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), batch)
  parts = (state.adapter, state.teacher, state.opt_state)
  parts, scalars = jax.lax.map(member, (parts, numbers, batches, seed_keys), batch_size=at_once if at_once > 1 else None)
  loss = scalars["loss"]
  named = {f"{name}/{key}": values[i] for i, name in enumerate(names) for key, values in scalars.items()}
  return adapt.AdaptState(state.step + 1, *parts), {"loss": jnp.nanmean(jnp.where(jnp.isfinite(loss), loss, jnp.nan)), **named}


class SweepFeed:
  """The batches of several feeds as one, {name: {field: [b k ...]}}; member k draws what the feed `which[k]` gives."""

  def __init__(self, feeds: Sequence[pipeline.Feed], which: Sequence[int]):
    self._feeds, self._which = feeds, which

  def __iter__(self) -> "SweepFeed":
    return self

  def __next__(self) -> dict:
    drawn = [next(feed) for feed in self._feeds]
    return jax.tree.map(lambda *leaves: np.stack(leaves, 1), *(drawn[i] for i in self._which))

  def get_state(self) -> dict[str, Any]:
    return {"feeds": [feed.get_state() for feed in self._feeds]}

  def set_state(self, state: dict[str, Any]) -> None:
    for feed, its_state in zip(self._feeds, state["feeds"], strict=True):
      feed.set_state(its_state)
