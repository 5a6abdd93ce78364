"""A training to be killed often: python -m tests.runtime.fault_driver FOLDER. Its steps do little and save much.

It uses all that the scripts use (run folder, signals, loop, checkpoints, results). Its state of 0.6 MB depends on every
step before, through a linear map, its moments and the batch's noise.
"""

import sys

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.runtime import checkpoint, files, loop, parallel, runs, scalars, signals

STEPS, SAVE_EVERY, SIZE = 60, 2, 220


@flax.struct.dataclass
class State:
  step: jax.Array
  weights: jax.Array
  moments: tuple[jax.Array, jax.Array]


def step(state, frozen, batch, seed_key):
  """One step whose result changes if any step is repeated, left out or moved."""
  noise = jax.random.normal(jax.random.fold_in(seed_key, state.step), (SIZE, SIZE))
  gradient = state.weights @ frozen + noise * jax.lax.pmean(batch["x"].mean(), parallel.AXIS)
  first = 0.9 * state.moments[0] + gradient
  second = 0.99 * state.moments[1] + gradient**2
  weights = state.weights - 0.01 * first / jnp.sqrt(1 + second)
  return State(state.step + 1, weights, (first, second)), {"loss": jnp.abs(weights).mean()}


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


def main(folder: str) -> None:
  signals.listen()
  run = runs.Run(folder, {"size": SIZE})
  moments = jnp.zeros((SIZE, SIZE)), jnp.zeros((SIZE, SIZE))
  state, feed = State(jnp.zeros((), jnp.int32), jnp.eye(SIZE), moments), Feed()
  checkpoints = checkpoint.Checkpoints(run.folder / "checkpoints", identity=run.config)
  frozen = np.sin(np.arange(SIZE * SIZE, dtype=np.float32)).reshape(SIZE, SIZE) / SIZE
  state = loop.resume(checkpoints, state, feed, "driver")
  settings = loop.LoopSettings(STEPS, SAVE_EVERY, SAVE_EVERY, run.write_scalars("driver"), "driver")
  state, _ = loop.train(
      parallel.make_parallel_step(step), state, frozen, feed, jax.random.key(0), settings, checkpoints
  )
  checkpoints.close()
  checkpoint.save_tree(run.folder / "weights", {"weights": state.weights})
  run.close()
  loss = scalars.read_rows(run.folder, "driver")[-1]["loss"]
  found = {"digest": checkpoint.digest({"weights": state.weights}), "loss": loss}
  files.write_json(run.folder / "metrics.json", found)


if __name__ == "__main__":
  try:
    main(sys.argv[1])
  except signals.Stopped as stopped:
    print(stopped, signals.hint())
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")
