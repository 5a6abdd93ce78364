"""Measures of hypotheses, on samples of a known distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.evaluation import spread

SHAPE = (40, 5, 17, 3)  # b f j 3


def drawn(scale, num: int = 60):
  """(hypotheses, target, valid): both drawn around one mean, hypotheses with `scale` times the target's deviation."""
  keys = jax.random.split(jax.random.key(0), 3)
  mean = jax.random.normal(keys[0], SHAPE)
  deviation = jnp.exp(jax.random.normal(keys[1], SHAPE[:-1] + (1,))) * jnp.array([0.02, 0.02, 0.06])
  noise = jax.random.normal(keys[2], (num + 1, *SHAPE)) * deviation
  return mean + scale * noise[:num], mean + noise[num], np.ones(SHAPE[:2])


def row(scale, num: int = 60) -> dict:
  poses, target, valid = drawn(scale, num)
  totals = spread.Totals()
  for part in (slice(0, 25), slice(25, 40)):
    totals.add(*spread.measure(poses[:, part], target[part]), valid[part])
  return totals.row()


def test_samples_of_the_true_distribution_cover_as_they_say_and_their_spread_tells_the_error():
  found = row(1.0)
  for where in ("depth", "across"):
    assert found[f"covered_{where}_50%"] == pytest.approx(0.5, abs=0.04)
    assert found[f"covered_{where}_90%"] == pytest.approx(0.9, abs=0.03)
  assert found["rank"] > 0.6 and found["frames"] == 200
  assert found["best_joint_mm"] < found["best_pose_mm"] < found["one_mm"] and found["mean_mm"] < found["one_mm"]


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_the_energy_score_is_least_for_the_true_distribution(scale):
  assert row(scale)["energy_mm"] > 1.02 * row(1.0)["energy_mm"]
  assert (row(scale)["covered_depth_90%"] < 0.6) == (scale < 1)


def test_equal_hypotheses_cover_nothing_and_have_no_rank():
  poses, target, valid = drawn(0.0, 4)
  totals = spread.Totals()
  totals.add(*spread.measure(poses, target), valid)
  found = totals.row()
  assert found["covered_depth_90%"] < 0.05 and found["spread_mm"] < 1e-3
  assert found["best_pose_mm"] == pytest.approx(found["mean_mm"], rel=1e-3)


def test_invalid_frames_do_not_count():
  poses, target, valid = drawn(1.0, 4)
  poses = poses.at[:, 0].add(100.0)
  valid[0] = 0
  totals = spread.Totals()
  with pytest.raises(ValueError, match="no valid frame"):
    totals.row()
  totals.add(*spread.measure(poses, target), valid)
  assert totals.row()["one_mm"] < 1000 and totals.row()["frames"] == 195
