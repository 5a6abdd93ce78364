"""Laws of scoring: every frame counts once, whatever the batch, and every number has its protocol."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.data import clips
from posynda_jax.evaluation import protocols, results, scoring
from posynda_jax.geometry import metrics, skeleton, virtual_camera
from posynda_jax.geometry.measured import Measured, make
from tests import scene
from tests.adaptation.batches import answering, track
from tests.geometry.test_virtual_camera import VIEW
from tests.geometry.test_virtual_camera import clips as viewed_clips
from tests.tolerance import assert_close

SOURCE = clips.ClipSource([track(scene.poses((frames,), frames), subject="s") for frames in (47, 20)], 9)
MANY = scoring.SamplingConfig(num_hypotheses=3, select="frame", sampling_steps=2)


def test_a_perfect_denoiser_scores_zero_and_an_offset_its_own_length_on_every_frame():
  every = SOURCE.take(range(len(SOURCE)))
  knows = answering(every["keypoints"], np.asarray(skeleton.root_centre(every["poses"])))
  aside = np.float32([1, 0, 0]) * (np.arange(17) > 0)[:, None]

  def make_denoiser(offset):
    return lambda *asked: knows(*asked) + offset * aside

  score = scoring.make_scorer(make_denoiser, MANY)
  found = scoring.evaluate(score, jnp.zeros(()), Measured(), SOURCE, 4)
  assert found["frames"] == 67 and found["mpjpe_mm"] < 1e-2 and found["p_mpjpe_mm"] < 1e-2
  found = scoring.evaluate(score, jnp.full((), 0.034), Measured(), SOURCE, 4)
  np.testing.assert_allclose(found["mpjpe_mm"], 34 * 16 / 17, rtol=1e-3)


def test_scores_do_not_depend_on_the_batch_size():
  def measure(pose, target):
    return {"mpjpe": metrics.mpjpe(pose, target)}

  score = scoring.make_scorer(lambda _: lambda keypoints, noisy, t: 0.1 * noisy, scoring.SamplingConfig(), measure)
  small, large = (scoring.evaluate(score, (), Measured(), SOURCE, size) for size in (3, 8))
  assert small["frames"] == large["frames"]
  np.testing.assert_allclose(small["mpjpe_mm"], large["mpjpe_mm"], rtol=1e-5)


@pytest.fixture(scope="module")
def scored() -> tuple[dict, np.ndarray, dict]:
  """(A clip, hypotheses, poses and scores by rule) of a network."""
  params, config = scene.tiny_model(9)[1], scoring.SamplingConfig(num_hypotheses=3)

  def make_network(params):
    return lambda *asked: scene.tiny_model(9)[0].apply(params, *asked)

  clip = SOURCE.take([0, 1, 2, 5]) | {"body": np.full((4, 16), 0.3, np.float32)}
  clip["valid"][1, 4:] = 0
  score = scoring.make_rule_scorer(make_network, config, scoring.RULES, with_aggregations=True)
  propose = jax.jit(lambda params, clip: scoring.propose(
      make_network(params), Measured(), clip, jax.random.key(config.seed), config))
  return clip, propose(params, clip), score(params, Measured(), clip)


def test_each_rule_reduces_the_same_hypotheses_as_it_does_alone(scored):
  clip, proposed, together = scored

  @jax.jit
  def combine(proposed, clip):
    return {rule: skeleton.root_centre(scoring.combine(
        proposed, Measured(), clip, scoring.SamplingConfig(num_hypotheses=3, select=rule))) for rule in scoring.RULES}

  assert sorted(together) == sorted(scoring.RULES)
  for rule, alone in combine(proposed, clip).items():
    pose, errors = together[rule]
    atol = 1e-4 if rule == "bones" else 1e-5  # it weighs by mm
    np.testing.assert_allclose(pose, alone, atol=atol)
    off = np.linalg.norm(alone - skeleton.root_centre(clip["poses"]), axis=-1)
    np.testing.assert_allclose(errors["mpjpe"], off.mean(-1), atol=atol)
  assert len({float(errors["mpjpe"].mean()) for _, errors in together.values()}) == len(scoring.RULES)


def test_d3dps_aggregations_are_of_clips_and_joints(scored):
  clip, poses, together = scored
  errors = together["mean"][1]
  off = np.linalg.norm(skeleton.root_centre(poses) - skeleton.root_centre(clip["poses"]), axis=-1)  # h b f j
  assert_close(errors["p_agg"], np.asarray(errors["mpjpe"]), dtype=np.float16)
  assert_close(errors["j_best"], off.min(0).mean(-1), dtype=np.float16)
  best = (off.mean(-1) * clip["valid"]).sum(-1).argmin(0)  # of each clip
  assert_close(errors["p_best"], off.mean(-1)[best, np.arange(4)], dtype=np.float16)
  assert (errors["j_agg"] >= errors["j_best"] - 1e-5).all()


def test_poses_lifted_through_a_virtual_camera_are_in_the_real_cameras_axes():
  clip = viewed_clips()
  truth = jax.jit(virtual_camera.render_clip)(clip, VIEW)[0]["poses"]
  truth = skeleton.root_centre(truth)
  through, own = (
      jax.jit(lambda clip, made=made: scoring.propose(
          lambda *_: truth, made, clip, jax.random.key(0), scoring.SamplingConfig()))(clip)
      for made in (make(view=VIEW), Measured())
  )
  assert_close(through[0], skeleton.root_centre(clip["poses"]))
  assert np.abs(own[0] - through[0]).max() > 0.05


def propose_twenty(denoise, made, clip):
  config = scoring.SamplingConfig(num_hypotheses=20)
  return jax.jit(lambda clip: scoring.propose(denoise, made, clip, jax.random.key(0), config))(clip)


def test_clips_and_hypotheses_take_turns_in_the_mirror_image():
  def denoise(keypoints, *_):
    return jnp.concatenate([0.1 * keypoints, 0 * keypoints[..., :1]], -1) + jnp.float32([0.05, 0, 0])

  clip = viewed_clips() | {"index": np.arange(5), "mirrored": np.array([0, 1, 0, 1, 1])}
  offset = propose_twenty(denoise, Measured(), clip)[..., 0] - 0.1 * clip["keypoints"][..., 0]
  turns = (np.arange(20)[:, None] + clip["mirrored"]) % 2
  assert_close(offset, np.broadcast_to(0.05 - 0.1 * turns[..., None, None], offset.shape))


def test_all_hypotheses_but_the_first_assume_another_pitch_of_a_canonical_camera():
  def denoise(inputs, *_):  # a pose as long as the channel of the pitch
    return inputs[..., -1:] * jnp.float32([0, 0, 1])

  made = make(view=virtual_camera.CANONICAL, inputs=virtual_camera.CHANNELS)
  clip = viewed_clips() | {"index": np.arange(5)}
  sines = np.asarray(propose_twenty(denoise, made, clip))
  sines = np.sign(sines[..., 2]) * np.linalg.norm(sines, axis=-1)
  assert_close(sines, np.broadcast_to(sines[:, :, :1, :1], sines.shape))  # one for a hypothesis of a clip
  own = jax.jit(virtual_camera.render_clip)(clip, virtual_camera.CANONICAL)[1][:, 2, 1]
  assert_close(sines[0, :, 0, 0], own)
  assumed = sines[1:, :, 0, 0] - own
  most = virtual_camera.MOST_PITCH
  assert np.abs(assumed).max() < most + 1e-5
  assert (np.diff(np.sort(assumed, 0), axis=0) < 0.2 * most).all()  # evenly: 19 draws leave larger gaps
  alone = propose_twenty(denoise, made, jax.tree.map(lambda x: x[3:], clip))
  assert_close(np.linalg.norm(alone, axis=-1), np.abs(sines[:, 3:]))


def test_every_number_has_its_protocol():
  config = scoring.SamplingConfig(select="joint", root="oracle", refine="body")
  found = scoring.describe_protocol("hdm05_mocap/wild_rig_detected", "test", 15.0, config, tuple(VIEW.tolist()))
  assert (found["keypoints_2d"], found["root"], found["selection"]) == ("detected", "oracle", "joint")
  assert found["refine"] == "body" and "virtual camera" in found["view"]
  found = scoring.describe_protocol("a/b_gt", "test", 15.0, scoring.SamplingConfig())
  assert found["keypoints_2d"] == "gt" and found["root"] == "not needed" and "view" not in found
  tuned = scoring.describe_protocol("human36m/cpn_ft_h36m_dbb", "test", 50.0, scoring.SamplingConfig())
  assert tuned["keypoints_2d"] == "cpn_ft_h36m_dbb"


@pytest.mark.parametrize("field", ["select", "refine", "root"])
def test_an_unknown_choice_lists_the_choices(field):
  with pytest.raises(ValueError, match=f"{field} 'video' is unknown; choose one of"):
    scoring.SamplingConfig(**{field: "video"})


def test_results_stand_between_source_only_and_ceiling_with_their_closure():
  scores = {"ceiling": 60.0, "adapted": 70.0, "source_only": 100.0}
  table = results.result_table({name: {"mpjpe_mm": value, "frames": 5000} for name, value in scores.items()})
  assert table[0] == ["", "MPJPE mm", "closure %", "frames"]
  assert table[1:] == [
      ["source_only", "100.0", "", "5,000"], ["adapted", "70.0", "75.0", "5,000"], ["ceiling", "60.0", "", "5,000"]
  ]
  assert results.closure(60.0, 50.0, 60.0) is None  # no gap


def test_the_open_protocol_scores_targets_that_no_published_protocol_has():
  assert protocols.of_target("hdm05_mocap/wild_rig_gt") is protocols.OPEN
  assert protocols.of_target("mpi_inf_3dhp/vnect").name == "3dhp"
  assert [len(score.joints) for score in protocols.OPEN.scores] == [17, 17, 17, 17, 15]
