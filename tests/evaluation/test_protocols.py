"""Protocols of the field: perfect predictions, joint sets, parity with official scores, and records as rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.data import clips, tracks
from posynda_jax.evaluation import protocols, scoring, tally
from posynda_jax.geometry import skeleton
from posynda_jax.geometry.measured import Measured
from tests import golden, scene
from tests.data.test_tracks import record

PROTOCOLS = protocols.PROTOCOLS
PERFECT = {"mpjpe": 0, "p_mpjpe": 0, "pck": 100, "auc": 100 * 30 / 31}  # an error of 0 is not below the threshold 0
DHP = ("mpjpe_17_mm", "pck_percent", "auc_percent")
NOBODY = np.zeros((1, 17, 3))


@functools.cache
def make_measure(name: str, mm: float):
  return jax.jit(functools.partial(protocols.frame_scores, PROTOCOLS[name], mm=mm))


def frame_scores(name: str, pred, target, mm: float = 1.0) -> dict:
  """Scores by a compiled program, as the evaluation computes them."""
  return make_measure(name, mm)(np.asarray(pred, np.float32), np.asarray(target, np.float32))


def displaced(errors_mm: dict[int, float]) -> np.ndarray:
  """One frame with all joints at the origin, except for those moved along z by whole millimetres."""
  pose = np.zeros((1, 17, 3), np.float32)
  for joint, error in errors_mm.items():
    pose[0, joint, 2] = error
  return pose


def assert_perfect(values: dict, chosen: protocols.Protocol) -> None:
  for score in chosen.scores:
    atol = 0.01 if score.kind == "p_mpjpe" else 0
    np.testing.assert_allclose(values[score.name], PERFECT[score.kind], rtol=1e-6, atol=atol)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_perfect_prediction_is_perfect_wherever_its_root_is(name):
  target = scene.poses((7,))
  centred = skeleton.root_centre(target)
  assert_perfect(frame_scores(name, centred, centred, mm=1000.0), PROTOCOLS[name])
  moved = frame_scores(name, target + np.array([1.0, -2.0, 0.5]), target, mm=1000.0)
  assert all(np.abs(moved[score.name]).max() < 0.01 for score in PROTOCOLS[name].scores if PERFECT[score.kind] == 0)


def test_3dhp_scores_of_known_offsets():
  # Ankles, knees, wrists and a shoulder in H36M order. PCK and AUC do not count 7, 9 and the root.
  errors = {3: 150, 6: 149, 2: 5, 5: 75, 13: 4, 16: 200, 11: 12, 7: 1000, 9: 1000}
  scores = frame_scores("3dhp", displaced(errors), NOBODY)
  below = {150: 0, 149: 1, 5: 29, 75: 15, 4: 30, 200: 0, 12: 28}  # thresholds 0, 5, ..., 150 strictly above each
  assert scores["pck_percent"][0] == pytest.approx(100 * 12 / 14)  # 150 is not below 150
  assert scores["auc_percent"][0] == pytest.approx(100 * (sum(below.values()) + 7 * 30) / (14 * 31))
  assert scores["mpjpe_17_mm"][0] == pytest.approx(sum(errors.values()) / 17)
  assert scores["mpjpe_16_mm"][0] == pytest.approx(sum(errors.values()) / 16)


def test_joint_sets_are_those_of_the_datasets_own_orders():

  def left_out(name: str, score: int = 0) -> set[str]:
    return set(skeleton.JOINTS) - {skeleton.JOINTS[j] for j in PROTOCOLS[name].scores[score].joints}

  assert left_out("3dhp", 2) == left_out("3dhp", 3) == left_out("3dpw_14") == {"hip", "spine", "neck"}
  assert left_out("3dhp", 0) == left_out("h36m_p1") == left_out("h36m_p2") == set()
  assert left_out("3dhp", 1) == {"hip"} and left_out("3dpw_16") == {"neck"}
  assert {skeleton.JOINTS[j] for j in PROTOCOLS["3dpw_14"].centre} == {"left_hip", "right_hip"}
  # The same through poses in 3DHP order, where pelvis, spine and head are 14 to 16.
  for joint in range(17):
    found = frame_scores("3dhp", skeleton.to_h36m(displaced({joint: 900}), "dhp17"), NOBODY)["pck_percent"][0]
    assert joint == 14 or found == pytest.approx(100 if joint > 14 else 100 * 13 / 14)


def test_3dpw_protocols_differ_in_joints_and_centre():
  pred = displaced({1: 30, 4: 30})
  # Hips 30 mm off move the mid-hip by 30 mm. Both hips are then exact, and the other 12 of 14 joints are 30 mm off.
  assert frame_scores("3dpw_14", pred, NOBODY)["mpjpe_mm"][0] == pytest.approx(30 * 12 / 14)
  assert frame_scores("3dpw_16", pred, NOBODY)["mpjpe_mm"][0] == pytest.approx(30 * 2 / 16)
  body = scene.poses((1,), depth=0)
  moved_neck = body + displaced({9: 5})  # neither protocol scores or aligns the neck
  for name in ("3dpw_14", "3dpw_16"):
    assert frame_scores(name, 1.3 * moved_neck, body, mm=1000.0)["p_mpjpe_mm"][0] < 0.01
    assert frame_scores(name, moved_neck, body)["mpjpe_mm"][0] == 0


def test_golden_3dhp_protocol():
  arrays = golden.load("metrics_3dhp")
  total = tally.Tally(PROTOCOLS["3dhp"])
  for i in reversed(range(len(arrays["mpjpe"]))):
    pred, gt = (skeleton.to_h36m(arrays[f"seq{i}/{name}"], "dhp17") for name in ("pred", "gt"))
    labels = {"sequence": f"TS{i + 1}", "activity": i}
    total.add(frame_scores("3dhp", pred, gt), arrays[f"seq{i}/valid"], labels)
  row = total.row()

  def check(values: dict, *expected) -> None:
    np.testing.assert_allclose([values[name] for name in DHP], expected, atol=1e-3)

  for i, group in enumerate(row["groups"]["sequence"].values()):
    check(group, arrays["mpjpe"][i], arrays["pck"][i, -1], arrays["auc"][i, -1])
    np.testing.assert_allclose(group["mpjpe_16_mm"], arrays["mpjpe_per_joint"][i].sum() / 16, atol=1e-3)
    assert group["frames"] == arrays[f"seq{i}/valid"].sum()
  check(row["result"], *arrays["mean_over_seq"])
  check(row["averages"]["pooled"], arrays["pooled_mpjpe"], arrays["pooled_pck"][-1], arrays["pooled_auc"][-1])


@pytest.mark.parametrize("name, score, prefix", [("h36m_p1", "mpjpe", ""), ("h36m_p2", "p_mpjpe", "p_")])
def test_golden_h36m_protocols(name, score, prefix):
  arrays = golden.load("metrics_basic")
  total = tally.Tally(PROTOCOLS[name])
  for pred, target in zip(arrays[f"{prefix}pred"], arrays[f"{prefix}target"], strict=True):
    total.add(frame_scores(name, pred, target), np.ones(pred.shape[:-2]), {"action": "Walking"})
  np.testing.assert_allclose(total.row()["result"][f"{score}_mm"], arrays[score], atol=1e-5)


@pytest.mark.parametrize("select", ["mean", "joint"])
def test_golden_hypotheses_reduced_and_scored(select):
  arrays = golden.load("metrics_multihyp")
  target, valid = arrays["target"], arrays["valid"][..., 0]
  clip = {
      "poses": jnp.asarray(target + arrays["traj"]), "keypoints": jnp.asarray(arrays["target_2d"]),
      "intrinsics": jnp.broadcast_to(arrays["camera"], (len(target), 9)), "confidence": jnp.ones(target.shape[:-1]),
  }
  config = scoring.SamplingConfig(num_hypotheses=arrays["pred"].shape[2], select=select, root="oracle")
  for k in range(arrays["pred"].shape[1]):
    hypotheses = jnp.moveaxis(jnp.asarray(arrays["pred"][:, k]), 1, 0)
    pose = scoring.combine(hypotheses, Measured(), clip, config)
    scores, found = frame_scores("h36m_s1_to_s5678", skeleton.root_centre(pose), target), []
    for mask in (np.ones(valid.shape), valid):
      total = tally.Tally(PROTOCOLS["h36m_s1_to_s5678"])
      total.add(scores, mask, {"action": "Posing"})
      found.append(total.row()["result"])
    (everywhere, everywhere_p), (where_valid, _) = (result.values() for result in found)
    expected = {"j_agg": everywhere} if select == "joint" else {
        "p_agg": everywhere, "p2_p_agg": everywhere_p, "dhp_p_agg": where_valid}
    for name, value in expected.items():
      np.testing.assert_allclose(value, arrays[name][k], atol=1e-5, err_msg=name)


def dhp_records() -> list[dict]:
  """Test sequences of different lengths with invalid frames and activities that change within clips."""
  whole, records = record(60), []
  for i in range(6):
    name, frames = f"TS{i + 1}", np.arange(20 + 7 * i)
    one = {k: whole[k][frames] for k in ("keypoints_px", "confidence", "poses_camera_m")}
    one |= {"valid": frames % 5 > 0, "activity": (frames // 3 % 7 + 1).astype(np.int32), "annotation": "annot3"}
    records.append({**whole, **one, "subject": name, "action": name, "sequence": name})
  return records


def clip_source(records: list[dict]) -> clips.ClipSource:
  """Clips as the script makes them, at half the records' rate: each record gives two interleaved tracks."""
  return clips.ClipSource(tracks.make_tracks(records, tracks.LABELLED + PROTOCOLS["3dhp"].fields, 25.0), 9)


def test_activity_and_validity_follow_the_frames_from_record_to_row():
  chosen, records = PROTOCOLS["3dhp"], dhp_records()

  @jax.jit
  def score(weights, measured, clip):
    """All joints except the root are off by ten times the activity's number, in mm."""
    offset = 0.01 * clip["activity"][..., None, None] * jnp.array([1.0, 0, 0]) * (jnp.arange(17) > 0)[:, None]
    pose = skeleton.root_centre(clip["poses"])
    return {"any": (None, protocols.frame_scores(chosen, pose + offset, pose))}

  valid, activity = (np.concatenate([one[name] for one in records]) for name in ("valid", "activity"))
  for order, size in ((1, 4), (-1, 32)):
    row = scoring.evaluate_rules(score, None, Measured(), clip_source(records[::order]), size, chosen)["any"]
    for i, group in enumerate(row["groups"]["activity"].values(), start=1):
      assert group["frames"] == (valid & (activity == i)).sum()
      assert group["mpjpe_16_mm"] == pytest.approx(10 * i, rel=1e-5)
    for one in records:
      group = row["groups"]["sequence"][one["sequence"]]
      assert group["frames"] == one["valid"].sum()
      assert group["mpjpe_16_mm"] == pytest.approx(10 * one["activity"][one["valid"]].mean(), rel=1e-5)
    counts = {"frames": valid.sum(), "sequence": 6, "scene": 3, "activity": 7, "left_out": (~valid).sum()}
    assert row["counts"] == counts and row["records"] == {"annotation": ["annot3"]}
  del records[2]["activity"]
  with pytest.raises(ValueError, match="sequence TS3 has no activity"):
    clip_source([records[2]])
