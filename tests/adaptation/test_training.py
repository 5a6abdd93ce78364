"""The loop, its checkpoints and its folder: stop loudly, resume exactly, lose nothing."""

import dataclasses
import json

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import pretrain
from posynda_jax.data import pipeline
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import rigs, skeleton
from posynda_jax.runtime import checkpoint, loop, parallel, runs
from tests import scene
from tests.data.test_pipeline import record


@flax.struct.dataclass
class State:
  step: jax.Array
  value: jax.Array


def make_step(fail_at: int | None = None):
  """A step that adds the batch's mean to the state, and yields nan at one step."""

  def step(state, frozen, batch, seed_key):
    noise = jax.random.normal(jax.random.fold_in(seed_key, state.step))
    value = state.value + jax.lax.pmean(batch["x"].mean(), parallel.AXIS) + noise + frozen
    done = state.step + 1
    loss = jnp.where(done == (fail_at or -1), jnp.nan, value)
    return State(done, value), {"loss": loss}

  return parallel.make_parallel_step(step, jax.local_devices()[:2])


class Feed:
  """Batches that count."""

  def __init__(self):
    self.next = 0

  def __next__(self):
    self.next += 1
    return {"x": np.full(4, float(self.next - 1))}

  def get_state(self):
    return {"next": self.next}

  def set_state(self, state):
    self.next = state["next"]


def train(folder, num_steps, fail_at=None):
  checkpoints = checkpoint.Checkpoints(folder)
  state, feed = State(jnp.zeros((), jnp.int32), jnp.zeros(())), Feed()
  try:
    state = loop.resume(checkpoints, state, feed)
    return loop.train(
        make_step(fail_at), state, jnp.zeros(()), feed, jax.random.key(0), num_steps=num_steps, checkpoints=checkpoints,
        save_every=5, log_every=2, num_devices=2,
    )
  finally:
    checkpoints.close()


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
  whole, _ = train(tmp_path / "whole", 20)
  train(tmp_path / "parts", 10)
  parts, rows = train(tmp_path / "parts", 20)
  assert rows[0]["step"] > 10 and float(parts.value) == float(whole.value)


def test_a_non_finite_loss_stops_names_the_step_and_keeps_the_last_good_state(tmp_path):
  with pytest.raises(FloatingPointError, match="loss is nan at step 8; the checkpoint of step 5 is kept"):
    train(tmp_path, 20, fail_at=8)
  kept = checkpoint.Checkpoints(tmp_path)
  assert kept.latest() == 5


def test_parameters_of_another_shape_are_refused_by_leaf(tmp_path):
  _, params = scene.tiny_model()
  checkpoint.save_tree(tmp_path / "base", params)
  again = checkpoint.load_tree(tmp_path / "base", params)
  assert checkpoint.digest(again) == checkpoint.digest(params)
  other = jax.tree.map(lambda x: x, params)
  other["params"]["head"]["kernel"] = jnp.zeros((7, 3))
  with pytest.raises(ValueError, match=r"params/head/kernel: file \(16, 3\), model \(7, 3\)"):
    checkpoint.load_tree(tmp_path / "base", other)
  with pytest.raises(FileNotFoundError, match="no saved parameters"):
    checkpoint.load_tree(tmp_path / "nothing", params)


def test_digests_tell_parameters_apart():
  _, params = scene.tiny_model()
  other = jax.tree.map(lambda x: x + 1e-3, params)
  assert checkpoint.digest(params) != checkpoint.digest(other)


def test_a_folder_of_another_config_is_refused_untouched(tmp_path):
  runs.Run(tmp_path / "run", {"seed": 0, "adapt": {"rank": 4}})
  before = (tmp_path / "run" / "config.json").read_text()
  runs.Run(tmp_path / "run", {"seed": 0, "adapt": {"rank": 4}})
  with pytest.raises(ValueError, match="adapt.rank: 4 there, 8 now"):
    runs.Run(tmp_path / "run", {"seed": 0, "adapt": {"rank": 8}})
  assert (tmp_path / "run" / "config.json").read_text() == before
  lines = (tmp_path / "run" / "commands.jsonl").read_text().splitlines()
  assert len(lines) == 2 and "jax" in json.loads(lines[0])["versions"]


def clip_source():
  return pipeline.ClipSource(pipeline.make_tracks([record(47), record(20, name="run")], pipeline.LABELLED, 50.0), 9)


def test_a_perfect_denoiser_scores_zero_on_every_frame():
  source = clip_source()

  def make_denoiser(offset):
    # Looks the truth up by the clip's keypoints: all poses of the source, matched exactly.
    clips = [source[i] for i in range(len(source))]
    keys = jnp.stack([c["keypoints"] for c in clips])
    truth = skeleton.root_centre(jnp.stack([c["poses"] for c in clips]))

    def denoise(keypoints, noisy, t):
      distance = ((keypoints[:, None] - keys[None]) ** 2).sum((-1, -2, -3))
      return truth[distance.argmin(1)] + offset * np.array([1.0, 0, 0]) * (np.arange(17) > 0)[:, None]

    return denoise

  for config in (evaluate.EvaluateConfig(), evaluate.EvaluateConfig(num_hypotheses=3, select="frame", sampling_steps=2)):
    score = evaluate.make_scorer(make_denoiser, config)
    result = evaluate.evaluate(score, jnp.zeros(()), source, 4)
    assert result["frames"] == 67 and result["mpjpe_mm"] < 1e-2 and result["p_mpjpe_mm"] < 1e-2
    result = evaluate.evaluate(score, jnp.full((), 0.034), source, 4)
    np.testing.assert_allclose(result["mpjpe_mm"], 34 * 16 / 17, rtol=1e-3)


def test_scores_do_not_depend_on_the_batch_size():
  model, params = scene.tiny_model(9)
  score = evaluate.make_scorer(lambda params: lambda *x: model.apply(params, *x), evaluate.EvaluateConfig())
  source = clip_source()
  results = [evaluate.evaluate(score, params, source, size) for size in (3, 8)]
  assert results[0]["frames"] == results[1]["frames"]
  np.testing.assert_allclose(results[0]["mpjpe_mm"], results[1]["mpjpe_mm"], rtol=1e-5)


def test_rules_reduce_the_same_hypotheses_as_each_does_alone():
  model, params = scene.tiny_model(9)
  make_denoiser = lambda params: lambda *x: model.apply(params, *x)
  config, clip = evaluate.EvaluateConfig(num_hypotheses=3), next(iter(pipeline.in_order(clip_source(), 4)))
  together = evaluate.make_rule_scorer(make_denoiser, config, evaluate.RULES)(params, clip)
  assert sorted(together) == sorted(evaluate.RULES)
  proposed = jax.jit(lambda clip: evaluate.lift(make_denoiser(params), clip, jax.random.key(config.seed), config))(clip)
  for rule, (pose, errors) in together.items():
    alone = skeleton.root_centre(evaluate.combine(proposed, clip, dataclasses.replace(config, select=rule)))
    np.testing.assert_allclose(pose, alone, atol=1e-5)
    expected = evaluate.frame_errors(alone, skeleton.root_centre(clip["poses"]))
    np.testing.assert_allclose(errors["mpjpe"], expected["mpjpe"], atol=1e-5)
  assert len({float(errors["mpjpe"].mean()) for _, errors in together.values()}) == len(evaluate.RULES)


def test_every_number_carries_its_protocol():
  protocol = evaluate.protocol("hdm05_mocap/wild_rig_detected", "test", 15.0, evaluate.EvaluateConfig(select="joint", root="oracle"))
  assert protocol["keypoints_2d"] == "detected" and protocol["root"] == "oracle" and protocol["selection"] == "joint"


def test_the_detected_share_of_clips_has_a_detectors_errors_and_the_others_none():
  keys, rig = jax.random.split(jax.random.key(4), 200), rigs.get_rig("h36m_rig")
  batch = {"motion": jnp.broadcast_to(scene.motion(3), (200, 3, 17, 3)), "valid": jnp.ones((200, 3))}
  exact, poses = pretrain.see(keys, batch, rig)
  mixed, same_poses = pretrain.see(keys, batch, rig, 0.3)
  np.testing.assert_array_equal(poses, same_poses)
  touched = (np.asarray(exact) != np.asarray(mixed)).any((1, 2, 3))
  assert 0.2 < touched.mean() < 0.4
  error = np.linalg.norm(np.asarray(mixed - exact), axis=-1)[touched]
  assert 0.001 < np.median(error) < 0.02  # about a hundredth of a person's box, in half widths of the image
