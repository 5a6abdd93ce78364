"""Laws of the account without labels, and what the guard decides by it."""

import dataclasses

import jax
import numpy as np
import pytest

from posynda_jax.adaptation import account, adapters, bases
from posynda_jax.data import clips
from posynda_jax.evaluation import scoring
from posynda_jax.geometry import skeleton
from tests import scene
from tests.adaptation.batches import FRAMES, track
from tests.tolerance import assert_close

POSES = scene.poses((6 * FRAMES,), 2)
CONFIG = scoring.SamplingConfig(batch_size=4)


def target(num: int = 3) -> clips.ClipSource:
  """Clips of a few videos."""
  return clips.ClipSource([track(POSES)] * num, FRAMES)


def test_a_true_lifter_reprojects_and_has_the_persons_own_bones():
  source = target()
  known = source.take(range(len(source)))["keypoints"]
  poses = np.asarray(skeleton.root_centre(clips.cut(POSES, FRAMES)))

  def denoise(asked, noisy, t):  # answers its own 2D with the truth, and any other 2D with zeros
    gaps = ((asked[:, None] - known[None]) ** 2).sum((2, 3, 4))
    answer = jax.numpy.asarray(np.concatenate([poses] * 3))[gaps.argmin(1)]
    return jax.numpy.where((gaps.min(1) < 1e-8)[:, None, None, None], answer, 0.0)

  observe = account.make_observer(lambda params: denoise, CONFIG)
  weights = bases.Weights(bases.Base(scene.tiny_model(FRAMES)[0], {}, "", {}))
  found = account.take_account(observe, (), weights.measured, source, CONFIG.batch_size)
  assert found["reprojection_percent"] < 0.01
  bones = np.asarray(skeleton.bone_lengths(POSES))
  np.testing.assert_allclose(found["bones_percent"], 100 * (bones.std(0) / bones.mean(0)).mean(), rtol=1e-3)
  assert found["views_mm"] > 200  # zeros from the other side disagree by the size of a person


def test_a_share_of_an_adapter_lies_between_the_base_and_the_adapter():
  model, base = scene.tiny_model(FRAMES)
  adapter = adapters.init(jax.random.key(0), base, adapters.AdapterConfig(rank=2))
  adapter = jax.tree.map(lambda leaf: leaf + 0.1, adapter)
  kernels = [adapters.merge(base, account.shrink(adapter, share), 1.0)["params"] for share in (0.0, 0.25, 1.0)]
  assert_close(kernels[0], base["params"])
  assert_close(kernels[1], jax.tree.map(lambda zero, one: 0.75 * zero + 0.25 * one, kernels[0], kernels[2]))
  assert_close(account.shrink(adapter, 0.25)["bias"], 0.25 * adapter["bias"])


GOOD = {"reprojection_percent": 1.0, "views_mm": 40.0, "bones_percent": 5.0, "symmetry_percent": 4.0}
WORSE = GOOD | {"views_mm": 60.0}
BETTER = GOOD | {"views_mm": 30.0}
DETACHED = BETTER | {"reprojection_percent": 1.5}  # its views agree, and its poses leave the 2D


@pytest.mark.parametrize("whole, half, base, share, reason", [
    (BETTER, GOOD, GOOD, 1.0, "as a whole"), (WORSE, BETTER, GOOD, 0.5, "at 0.5, above which its poses are less"),
    (BETTER | {"views_mm": 31.0}, BETTER, GOOD, 1.0, "as a whole"),  # nearly as good
    (DETACHED, BETTER, GOOD, 0.5, "at 0.5"), (WORSE, WORSE, GOOD, 0.0, "at no share"),
    (BETTER, BETTER, GOOD | {"reprojection_percent": 20.0}, 0.0, "check joint order, intrinsics"),
    (BETTER, BETTER, WORSE, 0.0, "fits better with left and right exchanged"),
])
def test_the_guard_keeps_the_largest_share_that_is_nearly_the_best_or_says_why_none(whole, half, base, share, reason):
  mended = {"y downwards": WORSE, "left and right exchanged": GOOD}
  decision = account.decide({1.0: whole, 0.5: half, 0.0: base}, mended)
  assert decision.share == share and reason in decision.reason
  assert dataclasses.asdict(decision)["accounts"][0.0] == base


def test_on_few_clips_nothing_is_kept():
  decision = account.decide({1.0: BETTER, 0.0: GOOD}, {}, 40)
  assert decision.share == 0 and "40 clips are too few" in decision.reason and "--noguard" in decision.reason


def test_left_and_right_bones_tell_a_focal_length_that_is_too_long():
  shorter = GOOD | {"views_mm": 41.0, "symmetry_percent": 3.8}
  assert account.doubt(shorter) > account.doubt(GOOD)
  name = "two thirds of the focal length"
  decision = account.decide({1.0: BETTER, 0.0: GOOD}, {name: shorter})
  assert decision.share == 0 and f"fits better with {name}: check" in decision.reason
  assert account.decide({1.0: BETTER, 0.0: GOOD}, {name: shorter | {"symmetry_percent": 4.0}}).share == 1


def test_intrinsics_scale_by_focal_length_and_by_the_offset_of_the_principal_point():
  arrays = {"intrinsics": np.float32([[2, 3, 0.1, -0.2, *range(5)]])}
  longer = account.scale_intrinsics(arrays, focal=1.5)
  np.testing.assert_allclose(longer["intrinsics"], [[3, 4.5, 0.1, -0.2, *range(5)]], rtol=1e-6)
  again = account.scale_intrinsics(longer, focal=2 / 3)
  np.testing.assert_allclose(again["intrinsics"], arrays["intrinsics"], rtol=1e-6)
  np.testing.assert_allclose(account.scale_intrinsics(arrays, centre=0)["intrinsics"], [[2, 3, 0, 0, *range(5)]])


@pytest.mark.parametrize("name", ["left and right exchanged", "y downwards"])
def test_a_mended_mistake_made_twice_is_none(name):
  clip = target().take([0, 1])
  change = account.OTHERWISE[name]
  once = clip | change(clip)
  assert np.abs(once["keypoints"] - clip["keypoints"]).max() > 0.01
  np.testing.assert_array_equal(change(once)["keypoints"], clip["keypoints"])
