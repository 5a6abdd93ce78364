"""Laws of a detector's errors, and that the real one's are those that were fitted."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from posynda_jax.geometry import detector
from tests import ROOT, scene

CLIPS, FRAMES = 400, 9
BODY = np.broadcast_to(scene.motion(1)[..., :2] * [300, -300] + 500, (FRAMES, 17, 2)).astype(np.float32)
BOX = np.ptp(BODY[0], axis=0).max()


def errors_of(errors: detector.Errors) -> np.ndarray:
  """Errors [clips f 17 2] as shares of the box, without misses and exchanged sides."""
  errors = dataclasses.replace(errors, misses=0.0, swaps=0.0)
  keys = jax.random.split(jax.random.key(0), CLIPS)
  found, confidence = jax.jit(jax.vmap(lambda key: detector.detect(key, BODY, errors)))(keys)
  assert ((confidence > 0) & (confidence < 1)).all()
  return (np.asarray(found) - BODY) / BOX


@pytest.mark.parametrize("errors", [detector.SIMULATED, detector.REAL])
def test_errors_have_the_spread_the_bias_and_the_correlation_that_are_asked_for(errors):
  found = errors_of(errors)
  total = np.array(errors.spread) * np.sqrt(np.exp(0.5) + errors.bias**2)  # the difficulty is log-normal, 0.5
  np.testing.assert_allclose(found.std((0, 1, 3)), total, rtol=0.12)
  biased = errors.bias**2 / (np.exp(0.5) + errors.bias**2)
  for lag in (1, 3):
    together = (found[:, :-lag] * found[:, lag:]).mean() / (found**2).mean()
    own = (1 - biased) * errors.correlation**lag  # a little less, because the difficulty changes too
    assert biased + 0.6 * own - 0.05 < together < biased + own + 0.05


def test_the_legs_exchange_sides_in_as_many_frames_as_is_asked_for():
  errors = detector.Errors(spread=(0.0,) * 17, misses=0.0, swaps=0.2)
  keys = jax.random.split(jax.random.key(1), CLIPS)
  found = np.asarray(jax.jit(jax.vmap(lambda key: detector.detect(key, BODY, errors)[0]))(keys))
  assert 0.15 < (np.abs(found[:, :, 3] - BODY[:, 3]).max(-1) > 1).mean() < 0.25


def test_the_real_errors_are_the_fitted_ones():
  fitted = json.loads((ROOT / "docs/results/detector.json").read_text())
  joints = {"hip": 1, "knee": 2, "ankle": 3, "shoulder": 11, "elbow": 12, "wrist": 13}
  for name, joint in joints.items():
    assert detector.REAL.spread[joint] * np.exp(0.25) == pytest.approx(fitted["spread"][name], rel=0.02)
  bias = np.mean([fitted["bias"][name] / detector.REAL.spread[joint] for name, joint in joints.items()])
  assert detector.REAL.bias == pytest.approx(bias, rel=0.05)
  assert detector.REAL.correlation == pytest.approx(fitted["correlation"], abs=0.01)
