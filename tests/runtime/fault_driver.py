"""A training small enough to be killed often: python -m tests.fault_driver FOLDER. Its steps do little and save much.

It goes through what the scripts go through (the run's folder, signals, loop, checkpoints, results), with a state of 0.6 MB that a
linear map, its moments and the batch's noise make depend on every step before.
"""

import sys

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.runtime import checkpoint, loop, parallel, runs, signals

STEPS, SAVE_EVERY, SIZE = 60, 2, 220


@flax.struct.dataclass
class State:
  step: jax.Array
  weights: jax.Array
  moments: tuple[jax.Array, jax.Array]


def step(state, frozen, batch, seed_key):
  """One step that no order, repeat or omission of steps leaves the same."""
  noise = jax.random.normal(jax.random.fold_in(seed_key, state.step), (SIZE, SIZE))
  gradient = state.weights @ frozen + noise * jax.lax.pmean(batch["x"].mean(), parallel.AXIS)
  first = 0.9 * state.moments[0] + gradient
  second = 0.99 * state.moments[1] + gradient**2
  weights = state.weights - 0.01 * first / jnp.sqrt(1 + second)
  return State(state.step + 1, weights, (first, second)), {"loss": jnp.abs(weights).mean()}


class Feed:
  """Batches that count."""

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
  zeros = lambda: jnp.zeros((SIZE, SIZE))
  state, feed = State(jnp.zeros((), jnp.int32), jnp.eye(SIZE), (zeros(), zeros())), Feed()
  checkpoints = checkpoint.Checkpoints(run.folder / "checkpoints", identity=run.config)
  frozen = np.sin(np.arange(SIZE * SIZE, dtype=np.float32)).reshape(SIZE, SIZE) / SIZE
  state, _ = loop.train(
      parallel.make_parallel_step(step), loop.resume(checkpoints, state, feed, "driver"), frozen, feed, jax.random.key(0),
      num_steps=STEPS, checkpoints=checkpoints, save_every=SAVE_EVERY, log_every=SAVE_EVERY, write=run.write_scalars("driver"),
      name="driver",
  )
  checkpoints.close()
  checkpoint.save_tree(run.folder / "weights", {"weights": state.weights})
  run.close()
  rows = runs.read_rows(run.folder, "driver")
  found = {"digest": checkpoint.digest({"weights": state.weights}), "loss": rows[-1]["loss"]}
  runs.write_json(run.folder / "metrics.json", found)


if __name__ == "__main__":
  try:
    main(sys.argv[1])
  except signals.Stopped as stopped:
    print(stopped, signals.hint())
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")
