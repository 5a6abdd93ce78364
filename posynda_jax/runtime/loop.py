"""The flat loop around a parallel step: draw, step, log, save. It stops with an error at a non-finite loss, and in order at a signal."""

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

_AHEAD = 4  # steps the host may be ahead of the device: enough to keep it busy, few enough to stop soon


def resume(checkpoints: Checkpoints, state: Any, feed, name: str = "train") -> Any:
  """The state of the last good checkpoint, with `feed` at its step; `state` where nothing was saved yet."""
  found = checkpoints.restore(state)
  if found is None:
    return state
  state, fed = found
  feed.set_state(fed)
  print(f"Resuming {name} at step {int(state.step)}", flush=True)
  return state


@dataclasses.dataclass(frozen=True)
class Saving:
  """Steps between checkpoints and between log rows, and how many checkpoints are kept."""

  save_every: int = 500
  log_every: int = 50
  keep: int = 2


@dataclasses.dataclass(frozen=True)
class LoopSettings:
  """How long a training is and what it writes: `write(step, scalars)` gets each log row. `num_devices` None is all."""

  num_steps: int
  save_every: int = 500
  log_every: int = 50
  write: Callable[[int, dict[str, float]], None] = lambda step, scalars: None
  name: str = "train"
  num_devices: int | None = None


def train(
    step: Callable, state: Any, frozen: Any, feed: Iterator[dict], seed_key: jax.Array, settings: LoopSettings,
    checkpoints: Checkpoints | None = None,
) -> tuple[Any, list[dict[str, float]]]:
  """Runs from `state.step` to `num_steps`. Returns the last state, saved and on one device, and the logged rows.

  Metrics are fetched once per logging interval. A checkpoint is written only after its interval was finite, so the last one is
  good. Raises FloatingPointError, which names the step, for a non-finite loss; signals.Stopped after a signal, with the step saved.
  """
  name, num_steps = settings.name, settings.num_steps
  num_devices = settings.num_devices or jax.local_device_count()
  state, frozen, seed_key = parallel.replicate((state, frozen, seed_key), jax.local_devices()[:num_devices])
  first, rows, pending = int(state.step), [], []
  batches, ready = parallel.DeviceFeed(feed, num_devices), []
  if first < num_steps:
    ready = [next(batches)]
    step = parallel.compile_step(step, name, state, frozen, ready[0], seed_key)
  waited, since = 0.0, time.perf_counter()
  bar = tqdm(
      range(first, num_steps), initial=first, total=num_steps, desc=name, unit="step", mininterval=2, dynamic_ncols=True,
      disable=not processes.is_main(),
  )
  with signals.held():
    for i in bar:
      asked = time.perf_counter()
      batch = ready.pop() if ready else next(batches)
      waited += time.perf_counter() - asked
      state, scalars = step(state, frozen, batch, seed_key)
      signals.hold()  # until now there was nothing to save
      pending.append(scalars)
      if len(pending) > _AHEAD:
        jax.block_until_ready(pending[-1 - _AHEAD]["loss"])
      done = i + 1
      last = done == num_steps
      save = checkpoints and (last or done % settings.save_every == 0)
      log = save or last or done % settings.log_every == 0
      stop = signals.asked(together=log)
      if log or stop:
        row = _reduce(pending, done, name, checkpoints)
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
    if first < num_steps and stop:
      kept = ", which is saved" if checkpoints else ""
      raise signals.Stopped(f"Stopped after step {done:,} of {num_steps:,} of {name}{kept}.")
  return jax.device_put(state, jax.local_devices()[0]), rows


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
