"""The loop stops at a loss that is not finite and resumes exactly; trees in files fit or are refused by leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.runtime import checkpoint, loop, parallel
from tests import scene
from tests.runtime import toy


def train(folder, num_steps: int, fail_at: int = -1):
  """(state, logged rows) of the tiny training on two devices."""
  checkpoints = checkpoint.Checkpoints(folder)
  state, feed = toy.State(jnp.zeros((), jnp.int32), jnp.zeros(())), toy.Feed()
  settings = loop.LoopSettings(num_steps, save_every=5, log_every=2, num_devices=2)
  try:
    state = loop.resume(checkpoints, state, feed)
    step = parallel.make_parallel_step(toy.make_step(fail_at), jax.local_devices()[:2])
    return loop.train(step, state, jnp.zeros(()), feed, jax.random.key(0), settings, checkpoints)
  finally:
    checkpoints.close()


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
  whole, _ = train(tmp_path / "whole", 20)
  train(tmp_path / "parts", 10)
  parts, rows = train(tmp_path / "parts", 20)
  assert rows[0]["step"] > 10 and float(parts.value) == float(whole.value)


def test_a_loss_that_is_not_finite_stops_names_the_step_and_keeps_the_last_good_state(tmp_path):
  with pytest.raises(FloatingPointError, match="loss is nan at step 8; the checkpoint of step 5 is kept"):
    train(tmp_path, 20, fail_at=8)
  assert checkpoint.Checkpoints(tmp_path).latest() == 5


def test_parameters_of_another_shape_are_refused_by_leaf(tmp_path):
  _, params = scene.tiny_model()
  checkpoint.save_tree(tmp_path / "base", params)
  again = checkpoint.load_tree(tmp_path / "base", params)
  assert checkpoint.digest(again) == checkpoint.digest(params)
  assert checkpoint.digest(jax.tree.map(lambda x: x + 1e-3, params)) != checkpoint.digest(params)
  other = jax.tree.map(np.asarray, params)
  other["params"]["head"]["kernel"] = np.zeros((7, 3))
  with pytest.raises(ValueError, match=r"params/head/kernel: file \(16, 3\), model \(7, 3\)"):
    checkpoint.load_tree(tmp_path / "base", other)
  with pytest.raises(FileNotFoundError, match="no saved parameters"):
    checkpoint.load_tree(tmp_path / "nothing", params)
