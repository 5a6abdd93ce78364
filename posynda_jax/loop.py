"""The flat loop around a parallel step: draw, step, log, save; stop loudly where a loss is no number."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from posynda_jax import parallel
from posynda_jax.checkpoint import Checkpoints


def train(
    step: Callable,
    state: Any,
    frozen: Any,
    batches: Iterator[dict],
    seed_key: jax.Array,
    *,
    num_steps: int,
    checkpoints: Checkpoints | None = None,
    save_every: int = 500,
    log_every: int = 50,
    write: Callable[[int, dict[str, float]], None] = lambda step, scalars: None,
    name: str = "train",
    num_devices: int | None = None,
) -> tuple[Any, list[dict[str, float]]]:
  """Runs from `state.step` to `num_steps`. Returns the last state and the logged rows.

  The device is waited for once per logging interval. Raises FloatingPointError, naming the step, for a non-finite loss;
  checkpoints are written only after their interval proved finite, so the last one is good.
  """
  num_devices = num_devices or jax.local_device_count()
  state, frozen, seed_key = parallel.replicate((state, frozen, seed_key), jax.local_devices()[:num_devices])
  first, rows, pending = int(state.step), [], []
  waited, since = 0.0, time.perf_counter()
  bar = tqdm(range(first, num_steps), initial=first, total=num_steps, desc=name, unit="step", mininterval=2, dynamic_ncols=True)
  for i in bar:
    asked = time.perf_counter()
    batch = parallel.shard(next(batches), num_devices)
    waited += time.perf_counter() - asked
    state, scalars = step(state, frozen, batch, seed_key)
    pending.append(scalars)
    done = i + 1
    if done % log_every == 0 or done == num_steps or (checkpoints and done % save_every == 0):
      row = _reduce(pending, done, name, checkpoints)
      seconds = time.perf_counter() - since
      row |= {"steps_per_second": len(pending) / seconds, "data_wait": waited / seconds}
      rows.append({"step": done, **row})
      write(done, row)
      bar.set_postfix(loss=f"{row['loss']:.4g}", refresh=False)
      pending, waited, since = [], 0.0, time.perf_counter()
    if checkpoints and (done % save_every == 0 or done == num_steps):
      checkpoints.save(done, state)
  return state, rows


def _reduce(pending: list[dict], done: int, name: str, checkpoints) -> dict[str, float]:
  """Means over the interval; raises FloatingPointError for the first step whose loss is not finite."""
  fetched = jax.device_get(pending)
  for offset, scalars in enumerate(fetched):
    if not math.isfinite(scalars["loss"]):
      bad = done - len(fetched) + offset + 1
      kept = checkpoints.latest() if checkpoints else None
      where = f"the checkpoint of step {kept} is kept" if kept is not None else "nothing was saved before it"
      raise FloatingPointError(f"{name}: loss is {scalars['loss']} at step {bad}; {where}. Lower the learning rate or check the data")
  return {key: float(np.mean([s[key] for s in fetched])) for key in fetched[0]}
