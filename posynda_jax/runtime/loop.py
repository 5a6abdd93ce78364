"""The training loop: draw a batch, step, log, save. It raises for a non-finite loss and stops after a signal."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from posynda_jax.runtime import parallel, processes, signals
from posynda_jax.runtime.checkpoint import Checkpoints

_AHEAD = 4  # steps the host may be ahead of the device: more would delay a stop, fewer would leave the device idle


@dataclasses.dataclass(frozen=True)
class Saving:
  """Steps between checkpoints, steps between log rows, and the number of checkpoints kept."""

  save_every: int = 500
  log_every: int = 50
  keep: int = 2


@dataclasses.dataclass(frozen=True)
class LoopSettings:
  """Length and logging of a training. `write(step, scalars)` takes each log row; `num_devices` None uses all."""

  num_steps: int
  save_every: int = 500
  log_every: int = 50
  write: Callable[[int, dict[str, float]], None] = lambda step, scalars: None
  name: str = "train"
  num_devices: int | None = None


def resume(checkpoints: Checkpoints, state: Any, feed, name: str = "train") -> Any:
  """The state of the last whole checkpoint, with `feed` set to its step; `state` if there is no checkpoint."""
  found = checkpoints.restore(state)
  if found is None:
    return state
  state, feed_state = found
  feed.set_state(feed_state)
  print(f"Resuming {name} at step {int(state.step)}", flush=True)
  return state


def train(
    step: Callable, state: Any, frozen: Any, feed: Iterator[dict], seed_key: jax.Array, settings: LoopSettings,
    checkpoints: Checkpoints | None = None,
) -> tuple[Any, list[dict[str, float]]]:
  """(state after `num_steps`, saved and on one device; logged rows), starting at `state.step`.

  Metrics are fetched once a log row. A checkpoint is written only if all losses before it are finite. Raises
  FloatingPointError, which names the step, for a non-finite loss, and signals.Stopped after a signal, when the step is
  saved.
  """
  name, num_steps = settings.name, settings.num_steps
  num_devices = settings.num_devices or jax.local_device_count()
  state, frozen, seed_key = parallel.replicate((state, frozen, seed_key), jax.local_devices()[:num_devices])
  first, rows, pending, stop = int(state.step), [], [], False
  batches = parallel.DeviceFeed(feed, num_devices)
  if first < num_steps:
    step = parallel.compile_step(step, name, state, frozen, batches.peek(), seed_key)
  waited, since = 0.0, time.perf_counter()
  bar = tqdm(
      range(first, num_steps), initial=first, total=num_steps, desc=name, unit="step", mininterval=2,
      dynamic_ncols=True, disable=not processes.is_main(),
  )
  with signals.held():
    for i in bar:
      asked = time.perf_counter()
      batch = next(batches)
      waited += time.perf_counter() - asked
      state, scalars = step(state, frozen, batch, seed_key)
      signals.hold()  # before the first step there is nothing to save
      pending.append(scalars)
      if len(pending) > _AHEAD:
        jax.block_until_ready(pending[-1 - _AHEAD]["loss"])
      done = i + 1
      last = done == num_steps
      save = checkpoints and (last or done % settings.save_every == 0)
      log = save or last or done % settings.log_every == 0
      stop = signals.asked(together=log)
      if log or stop:
        row = _means(pending, done, name, checkpoints)
        seconds = time.perf_counter() - since
        row |= {"steps_per_second": len(pending) / seconds, "data_wait": waited / seconds}
        rows.append({"step": done, **row})
        settings.write(done, row)
        bar.set_postfix(loss=f"{row['loss']:.4g}", data_wait=f"{row['data_wait']:.1%}", refresh=False)
        pending, waited, since = [], 0.0, time.perf_counter()
      if save or checkpoints and stop:
        checkpoints.save(done, state, batches.get_state())
      if stop:
        break
    bar.close()
    if checkpoints:
      checkpoints.wait()
    if stop:
      kept = ", which is saved" if checkpoints else ""
      raise signals.Stopped(f"Stopped after step {done:,} of {num_steps:,} of {name}{kept}.")
  return jax.device_put(state, jax.local_devices()[0]), rows


def _means(pending: list[dict], done: int, name: str, checkpoints: Checkpoints | None) -> dict[str, float]:
  """Mean of each metric since the last row. Raises FloatingPointError for the first non-finite loss."""
  fetched = jax.device_get(pending)
  for number, scalars in enumerate(fetched, done - len(fetched) + 1):
    if not math.isfinite(scalars["loss"]):
      kept = checkpoints.latest() if checkpoints else None
      where = f"the checkpoint of step {kept} is kept" if kept is not None else "nothing was saved before it"
      raise FloatingPointError(
          f"{name}: loss is {scalars['loss']} at step {number}; {where}. Lower the learning rate or check the data"
      )
  return {key: float(np.mean([scalars[key] for scalars in fetched])) for key in fetched[0]}
