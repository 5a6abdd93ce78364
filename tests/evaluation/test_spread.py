"""Measures of hypotheses, on samples of a known distribution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.evaluation import spread
from posynda_jax.interop import convert
from tests.tolerance import assert_close

SHAPE = (40, 5, 17, 3)  # b f j 3
AXIS = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0]), (40, 5, 3))  # of depth


MEASURE = jax.jit(spread.measure)


@functools.cache
def drawn(scale, num: int = 60):
  """(hypotheses, target, valid): both drawn around one mean, hypotheses with `scale` times the target's deviation."""
  keys = jax.random.split(jax.random.key(0), 3)
  mean = jax.random.normal(keys[0], SHAPE)
  deviation = jnp.exp(jax.random.normal(keys[1], SHAPE[:-1] + (1,))) * jnp.array([0.02, 0.02, 0.06])
  noise = jax.random.normal(keys[2], (num + 1, *SHAPE)) * deviation
  return mean + scale * noise[:num], mean + noise[num], np.ones(SHAPE[:2])


def total(*batches) -> dict:
  """The row of batches (hypotheses, target, valid)."""
  totals = spread.Totals()
  for poses, target, valid in batches:
    totals.add(*MEASURE(poses, target, AXIS[: len(target)]), valid)
  return totals.row()


@functools.cache
def row(scale) -> dict:
  poses, target, valid = drawn(scale)
  return total(*((poses[:, part], target[part], valid[part]) for part in (slice(0, 20), slice(20, 40))))


def test_samples_of_the_true_distribution_cover_as_they_say_and_their_spread_tells_the_error():
  found = row(1.0)
  for where in ("depth", "across"):
    assert found[f"covered_{where}_50%"] == pytest.approx(0.5, abs=0.04)
    assert found[f"covered_{where}_90%"] == pytest.approx(0.9, abs=0.03)
  assert found["rank"] > 0.6 and found["frames"] == 200
  assert found["best_joint_mm"] < found["best_pose_mm"] < found["one_mm"] and found["mean_mm"] < found["one_mm"]


def test_the_temperature_mends_deviations_that_are_stated_too_small_or_too_large():
  poses, target, valid = drawn(1.0, 61)
  own = jnp.log((poses - poses.mean(0)).std(0))[..., 1:] + jnp.log(jnp.array([2.0, 0.5]))  # across and along depth
  found = total((jnp.concatenate([poses.mean(0), own], -1)[None], target, valid))
  assert found["temperature_across"] == pytest.approx(0.5, rel=0.1)
  assert found["temperature_depth"] == pytest.approx(2.0, rel=0.1)
  params = {"params": {"doubt": {"kernel": np.zeros((4, 2)), "bias": np.float32([0.1, 0.2])}, "head": 1}}
  cooled = convert.with_temperature(params, f"{found['temperature_across']},{found['temperature_depth']}")
  factors = np.log([found["temperature_across"], found["temperature_depth"]])
  assert_close(cooled["params"]["doubt"]["bias"], np.float32([0.1, 0.2] + factors))
  mended = total((jnp.concatenate([poses.mean(0), own + factors], -1)[None], target, valid))
  for where in ("depth", "across"):
    assert mended[f"covered_{where}_90%"] == pytest.approx(0.9, abs=0.01)
  for wrong in ("1", "a,b", "0,1", "1,-1", ""):
    with pytest.raises(ValueError, match="not two positive factors"):
      convert.with_temperature(params, wrong)
  with pytest.raises(ValueError, match="no doubt head"):
    convert.with_temperature({"params": {"head": 1}}, "1,1")


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_the_energy_score_is_least_for_the_true_distribution(scale):
  assert row(scale)["energy_mm"] > 1.02 * row(1.0)["energy_mm"]
  assert (row(scale)["covered_depth_90%"] < 0.6) == (scale < 1)


def test_what_a_head_states_adds_to_the_variance_of_hypotheses():
  poses, target, valid = drawn(1.0, 61)
  own = jnp.log((poses - poses.mean(0)).std(0))[..., 1:]  # across and along depth, of each joint
  stated = jnp.concatenate([poses.mean(0, keepdims=True), own[None]], -1)
  for where in ("depth", "across"):
    assert total((stated, target, valid))[f"covered_{where}_90%"] == pytest.approx(0.9, abs=0.06)
  both = jnp.concatenate([poses[:20], jnp.broadcast_to(own, (20, *own.shape))], -1)
  apart = spread.deviations(poses[:20], AXIS)
  assert_close((spread.deviations(both, AXIS) ** 2)[:, :, 1:], (apart**2 + jnp.exp(2 * own))[:, :, 1:])


def test_depth_is_along_the_given_axis():
  poses, _, _ = drawn(1.0)
  turned = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), (40, 5, 3))
  assert_close(spread.deviations(poses, AXIS), spread.deviations(jnp.roll(poses, 1, -1), turned))


def test_equal_hypotheses_cover_nothing_and_have_no_rank():
  found = total(drawn(0.0, 4))
  assert found["covered_depth_90%"] < 0.05 and found["sigma_mm"] < 1e-3
  assert found["best_pose_mm"] == pytest.approx(found["mean_mm"], rel=1e-3)


def test_invalid_frames_do_not_count():
  poses, target, valid = drawn(1.0, 4)
  with pytest.raises(ValueError, match="no valid frame"):
    total()
  found = total((poses.at[:, 0].add(100.0), target, np.where(np.arange(40)[:, None] > 0, valid, 0)))
  assert found["one_mm"] < 1000 and found["frames"] == 195
