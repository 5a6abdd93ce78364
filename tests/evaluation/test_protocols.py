"""Protocols of the field: perfect predictions, hand-made averages, parity with the official scores, and the way from records."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.data import pipeline
from posynda_jax.evaluation import evaluate, paper_tables, protocols, tally
from posynda_jax.geometry import skeleton
from tests import golden, scene
from tests.data.test_pipeline import record

NAMES = list(protocols.PROTOCOLS)
PERFECT_AUC = 100 * 30 / 31  # an error of 0 is not below the threshold 0


@functools.cache
def make_measure(name: str, mm: float):
  return jax.jit(functools.partial(protocols.frame_scores, protocols.PROTOCOLS[name], mm=mm))


def frame_scores(name: str, pred, target, mm: float = 1.0) -> dict:
  """Compiled, as the evaluation runs it."""
  return make_measure(name, mm)(np.asarray(pred, np.float32), np.asarray(target, np.float32))


def rated(name: str, values: dict[str, list[float]], **more) -> dict:
  """The row of a protocol of one score whose frames have these values, by the label of its first grouping."""
  chosen = protocols.PROTOCOLS[name]
  total = tally.Tally(chosen)
  for label, of_frames in values.items():
    scores = {score.name: np.array(of_frames) for score in chosen.scores}
    total.add(scores, np.ones(len(of_frames)), {chosen.groupings[0].label: label, **more})
  return total.row()


def displaced(errors_mm: dict[int, float]) -> np.ndarray:
  """One frame of joints at the origin but for these, moved along z by whole millimetres."""
  pose = np.zeros((1, 17, 3), np.float32)
  for joint, error in errors_mm.items():
    pose[0, joint, 2] = error
  return pose


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_prediction_is_perfect_wherever_its_root_is(name):
  target = scene.poses((7,))
  scores = frame_scores(name, skeleton.root_centre(target), skeleton.root_centre(target), mm=1000.0)
  for score in protocols.PROTOCOLS[name].scores:
    expected = {"mpjpe": 0, "p_mpjpe": 0, "pck": 100, "auc": PERFECT_AUC}[score.kind]
    np.testing.assert_allclose(scores[score.name], expected, rtol=1e-6, atol=0.01 if score.kind == "p_mpjpe" else 0)
  moved = frame_scores(name, target + np.array([1.0, -2.0, 0.5]), target, mm=1000.0)
  for score in protocols.PROTOCOLS[name].scores:
    if score.kind in ("mpjpe", "p_mpjpe"):
      assert np.abs(moved[score.name]).max() < 0.01


def test_3dhp_scores_of_known_offsets():
  # Ankles, knees, wrists and a shoulder in H36M order; 7, 9 and the root are not scored by PCK and AUC.
  errors = {3: 150, 6: 149, 2: 5, 5: 75, 13: 4, 16: 200, 11: 12, 7: 1000, 9: 1000}
  scores = frame_scores("3dhp", displaced(errors), np.zeros((1, 17, 3)))
  below = {150: 0, 149: 1, 5: 29, 75: 15, 4: 30, 200: 0, 12: 28}  # thresholds 0, 5, ..., 150 strictly above each
  assert scores["pck_percent"][0] == pytest.approx(100 * 12 / 14)  # 150 is not below 150
  assert scores["auc_percent"][0] == pytest.approx(100 * (sum(below.values()) + 7 * 30) / (14 * 31))
  assert scores["mpjpe_17_mm"][0] == pytest.approx(sum(errors.values()) / 17)
  assert scores["mpjpe_16_mm"][0] == pytest.approx(sum(errors.values()) / 16)


def test_joint_sets_are_those_of_the_datasets_own_orders():
  joints = lambda name, i=0: {skeleton.JOINTS[j] for j in protocols.PROTOCOLS[name].scores[i].joints}
  everything = set(skeleton.JOINTS)
  assert joints("3dhp", 2) == joints("3dhp", 3) == joints("3dpw_14") == everything - {"hip", "spine", "neck"}
  assert joints("3dhp", 0) == joints("h36m_p1") == joints("h36m_p2") == everything
  assert joints("3dhp", 1) == everything - {"hip"} and joints("3dpw_16") == everything - {"neck"}
  assert {skeleton.JOINTS[j] for j in protocols.PROTOCOLS["3dpw_14"].centre} == {"left_hip", "right_hip"}
  # The same through poses in 3DHP order, where pelvis, spine and head are 14 to 16.
  unscored = skeleton.to_h36m(displaced({15: 900, 16: 900}), "dhp17")
  assert frame_scores("3dhp", unscored, np.zeros((1, 17, 3)))["pck_percent"][0] == 100
  for joint in range(14):
    scored = skeleton.to_h36m(displaced({joint: 900}), "dhp17")
    assert frame_scores("3dhp", scored, np.zeros((1, 17, 3)))["pck_percent"][0] == pytest.approx(100 * 13 / 14)


def test_3dpw_protocols_differ_in_joints_and_centre():
  pred, target = displaced({1: 30, 4: 30}), np.zeros((1, 17, 3))
  # Hips 30 mm off move the mid-hip by 30: both hips are then exact, the other 12 of 14 joints are 30 off.
  assert frame_scores("3dpw_14", pred, target)["mpjpe_mm"][0] == pytest.approx(30 * 12 / 14)
  assert frame_scores("3dpw_16", pred, target)["mpjpe_mm"][0] == pytest.approx(30 * 2 / 16)
  body = scene.poses((1,), depth=0)
  for name in ("3dpw_14", "3dpw_16"):  # the neck is in neither, not even in the alignment
    scores = frame_scores(name, 1.3 * (body + displaced({9: 5})), body, mm=1000.0)
    assert scores["p_mpjpe_mm"][0] < 0.01 and frame_scores(name, body + displaced({9: 5}), body)["mpjpe_mm"][0] == 0


def test_the_mean_of_action_means_is_not_the_frame_mean():
  row = rated("h36m_p1", {"Walking": [10.0], "Sitting": [20.0, 20.0, 20.0]})
  assert row["result"] == row["averages"]["mean_of_actions"] == {"mpjpe_mm": 15.0}
  assert row["averages"]["pooled"] == {"mpjpe_mm": 17.5}
  assert row["counts"] == {"frames": 4, "action": 2} and "Eating" in row["missing"] and len(row["missing"]) == 13
  assert "incomplete: no frame of Directions" in tally.table(row)


def test_actions_are_matched_whole():
  actions = (
      "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting", "SittingDown",
      "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether",
  )
  values = {name: [float(i)] for i, name in enumerate(actions)}
  row = rated("h36m_p2", values)
  assert {name: group["p_mpjpe_mm"] for name, group in row["groups"]["action"].items()} == {k: v[0] for k, v in values.items()}
  assert row["result"]["p_mpjpe_mm"] == 7.0 and row["missing"] == []
  for wrong in ("Sit", "Sitting 1", "sitting"):
    with pytest.raises(ValueError, match=f"action '{wrong}' is unknown to protocol h36m_p2, expected one of Directions"):
      rated("h36m_p2", {wrong: [1.0]})


def test_the_averages_of_3dhp_by_hand():
  values = {"TS1": [10.0], "TS2": [20.0] * 3, "TS3": [30.0] * 2, "TS4": [60.0], "TS5": [5.0], "TS6": [5.0]}
  row = rated("3dhp", values, activity=3)
  value = lambda scores: scores["mpjpe_17_mm"]
  assert value(row["averages"]["mean_of_sequences"]) == value(row["result"]) == pytest.approx(130 / 6)
  assert value(row["averages"]["pooled"]) == pytest.approx(200 / 9)
  assert value(row["averages"]["frame_weighted"]) == pytest.approx(200 / 9)
  scenes = [value(group) for group in row["groups"]["scene"].values()]
  np.testing.assert_allclose(scenes, [70 / 4, 120 / 3, 5])  # weighted by frames, not 15, 45, 5
  assert [group["frames"] for group in row["groups"]["scene"].values()] == [4, 3, 2]
  assert row["groups"]["activity"] == {"Sitting": {"frames": 9, **row["averages"]["pooled"]}}


def test_the_averages_of_3dhp_as_published():
  # D3DP, 3dhp_test/test_util/H20_K10, P_Agg_t1: per sequence (MPJPE, PCK, AUC), and "All" of the activity-wise table.
  frames = (603, 540, 506, 558, 276, 392)
  published = np.array([
      (31.3830091047589, 99.7867803837953, 76.6379316933), (26.2867774467932, 98.8492063492064, 80.4087728281277),
      (12.160267493303, 99.4071146245059, 89.8931713447842), (25.2174546487766, 98.8991295442908, 81.2715755743852),
      (32.2327630495312, 98.5507246376812, 75.9642356241234), (52.6647813173343, 91.5816326530612, 63.3728721903508),
  ])
  everything = (28.829247386133, 98.1341614906832, 78.7051091965538)
  total = tally.Tally(protocols.PROTOCOLS["3dhp"])
  for i, (num, values) in enumerate(zip(frames, published, strict=True)):
    scores = dict(zip(("mpjpe_17_mm", "pck_percent", "auc_percent"), (np.full(num, v) for v in values)))
    labels = {"sequence": f"TS{i + 1}", "activity": 0}
    total.add(scores | {"mpjpe_16_mm": scores["mpjpe_17_mm"] * 17 / 16}, np.ones(num), labels)
  averages = total.row()["averages"]
  read = lambda name: [averages[name][score] for score in ("mpjpe_17_mm", "pck_percent", "auc_percent")]
  np.testing.assert_allclose(read("pooled"), everything, rtol=1e-9)
  np.testing.assert_allclose(read("frame_weighted"), everything, rtol=1e-9)
  np.testing.assert_allclose(read("mean_of_sequences"), published.mean(0), rtol=1e-12)


def test_invalid_frames_never_count():
  rng = np.random.default_rng(0)
  values, valid = rng.uniform(0, 100, (4, 9)), rng.random((4, 9)) > 0.4
  chosen = protocols.PROTOCOLS["h36m_p1"]
  total = tally.Tally(chosen)
  total.add({"mpjpe_mm": np.where(valid, values, np.nan)}, valid.astype(np.float32), {"action": "Posing"})
  total.add({"mpjpe_mm": values}, np.zeros((4, 9)), {"action": "Eating"})
  row = total.row()
  assert row["counts"]["frames"] == valid.sum() and list(row["groups"]["action"]) == ["Posing"]
  assert row["result"]["mpjpe_mm"] == pytest.approx(values[valid].mean(), rel=1e-12)
  with pytest.raises(ValueError, match="no valid frame"):
    tally.Tally(chosen).row()
  with pytest.raises(ValueError, match=f"{(~valid).sum()} valid frames have scores that are not finite"):
    tally.Tally(chosen).add({"mpjpe_mm": np.where(valid, values, np.nan)}, np.ones((4, 9)), {"action": "Posing"})


def test_neither_order_nor_size_of_batches_matters():
  rng = np.random.default_rng(1)
  chosen = protocols.PROTOCOLS["3dhp"]
  values = {score.name: rng.uniform(0, 100, 500).astype(np.float32) for score in chosen.scores}
  valid, labels = rng.random(500) > 0.3, {"sequence": rng.choice(["TS1", "TS4", "TS6"], 500), "activity": rng.integers(0, 8, 500)}

  def row(order, size):
    total = tally.Tally(chosen)
    for i in range(0, 500, size):
      at = order[i : i + size]
      total.add({k: v[at] for k, v in values.items()}, valid[at], {k: v[at] for k, v in labels.items()})
    return total.row()

  expected = row(np.arange(500), 500)
  flat = lambda row: jax.tree.leaves({k: row[k] for k in ("result", "averages", "groups", "counts")})
  for size in (1, 7, 64):
    np.testing.assert_allclose(flat(row(rng.permutation(500), size)), flat(expected), rtol=1e-12)


def test_golden_3dhp_protocol():
  arrays = golden.load("metrics_3dhp")
  chosen, num = protocols.PROTOCOLS["3dhp"], len(arrays["mpjpe"])
  total = tally.Tally(chosen)
  for i in reversed(range(num)):
    pred, gt = (skeleton.to_h36m(arrays[f"seq{i}/{name}"], "dhp17") for name in ("pred", "gt"))
    total.add(frame_scores("3dhp", pred, gt), arrays[f"seq{i}/valid"], {"sequence": f"TS{i + 1}", "activity": i})
  row = total.row()
  read = lambda values: [values[name] for name in ("mpjpe_17_mm", "pck_percent", "auc_percent")]
  close = functools.partial(np.testing.assert_allclose, atol=1e-3)
  for i, group in enumerate(row["groups"]["sequence"].values()):
    close(read(group), (arrays["mpjpe"][i], arrays["pck"][i, -1], arrays["auc"][i, -1]))
    close(group["mpjpe_16_mm"], arrays["mpjpe_per_joint"][i].sum() / 16)
    assert group["frames"] == arrays[f"seq{i}/valid"].sum()
  close(read(row["result"]), arrays["mean_over_seq"])
  for name in ("pooled", "frame_weighted"):
    close(read(row["averages"][name]), (arrays["pooled_mpjpe"], arrays["pooled_pck"][-1], arrays["pooled_auc"][-1]))


def test_golden_h36m_protocols():
  arrays = golden.load("metrics_basic")
  for name, score, prefix in (("h36m_p1", "mpjpe", ""), ("h36m_p2", "p_mpjpe", "p_")):
    total = tally.Tally(protocols.PROTOCOLS[name])
    for pred, target in zip(arrays[f"{prefix}pred"], arrays[f"{prefix}target"], strict=True):
      scores = frame_scores(name, pred, target)
      total.add(scores, np.ones(pred.shape[:-2]), {"action": "Walking"})
    np.testing.assert_allclose(total.row()["result"][f"{score}_mm"], arrays[score], atol=1e-5)


def rated_under(mask, scores) -> dict[str, float]:
  total = tally.Tally(protocols.PROTOCOLS["h36m_s1_to_s5678"])
  total.add(scores, mask, {"action": "Posing"})
  return total.row()["result"]


@pytest.mark.parametrize("select", ["mean", "joint"])
def test_golden_hypotheses_reduced_and_scored(select):
  arrays = golden.load("metrics_multihyp")
  target, valid = arrays["target"], arrays["valid"][..., 0]
  clip = {
      "poses": jnp.asarray(target + arrays["traj"]), "keypoints": jnp.asarray(arrays["target_2d"]),
      "intrinsics": jnp.broadcast_to(arrays["camera"], (len(target), 9)), "confidence": jnp.ones(target.shape[:-1]),
  }
  config = evaluate.EvaluateConfig(num_hypotheses=arrays["pred"].shape[2], select=select, root="oracle")
  for k in range(arrays["pred"].shape[1]):
    pose = evaluate.combine(jnp.moveaxis(jnp.asarray(arrays["pred"][:, k]), 1, 0), clip, config)
    scores = frame_scores("h36m_s1_to_s5678", skeleton.root_centre(pose), target)
    everywhere, where_valid = (rated_under(mask, scores) for mask in (np.ones(valid.shape), valid))
    close = lambda ours, name: np.testing.assert_allclose(ours, arrays[name][k], atol=1e-5, err_msg=name)
    if select == "joint":
      close(everywhere["mpjpe_mm"], "j_agg")
    else:
      close(everywhere["mpjpe_mm"], "p_agg")
      close(everywhere["p_mpjpe_mm"], "p2_p_agg")
      close(where_valid["mpjpe_mm"], "dhp_p_agg")


def dhp_records() -> list[dict]:
  """Test sequences of different lengths at 50 frames a second, with invalid frames and activities that change within clips."""
  whole, records = record(60), []
  for i in range(6):
    name, frames = f"TS{i + 1}", np.arange(20 + 7 * i)
    one = {k: whole[k][frames] for k in ("keypoints_px", "confidence", "poses_camera_m")}
    one |= {"valid": frames % 5 > 0, "activity": (frames // 3 % 7 + 1).astype(np.int32), "annotation": "annot3"}
    records.append({**whole, **one, "subject": name, "action": name, "sequence": name})
  return records


def clip_source(records: list[dict], num_frames: int = 9) -> pipeline.ClipSource:
  """The clips as the command makes them, at half the records' rate: two interleaved tracks a record."""
  fields = pipeline.LABELLED + protocols.PROTOCOLS["3dhp"].fields
  return pipeline.ClipSource(pipeline.make_tracks(records, fields, 25.0), num_frames)


def test_activity_and_validity_follow_the_frames_from_record_to_row():
  chosen, records = protocols.PROTOCOLS["3dhp"], dhp_records()

  @jax.jit
  def score(weights, clip):  # every joint but the root is off by ten times the activity's number, in mm
    off = 0.01 * clip["activity"][..., None, None] * jnp.array([1.0, 0, 0]) * (jnp.arange(17) > 0)[:, None]
    pose = skeleton.root_centre(clip["poses"])
    return None, protocols.frame_scores(chosen, pose + off, pose)

  for order, size in ((1, 4), (-1, 32)):
    row = evaluate.evaluate_protocol(score, None, clip_source(records[::order]), size, chosen)
    valid = np.concatenate([r["valid"] for r in records])
    activity = np.concatenate([r["activity"] for r in records])
    for i, group in enumerate(row["groups"]["activity"].values(), start=1):
      assert group["frames"] == (valid & (activity == i)).sum()
      assert group["mpjpe_16_mm"] == pytest.approx(10 * i, rel=1e-5)
    for r in records:
      group = row["groups"]["sequence"][r["sequence"]]
      assert group["frames"] == r["valid"].sum()
      assert group["mpjpe_16_mm"] == pytest.approx(10 * r["activity"][r["valid"]].mean(), rel=1e-5)
    assert row["counts"] == {
        "frames": valid.sum(), "sequence": 6, "scene": 3, "activity": 7, "left_out": (~valid).sum()
    }
    assert row["records"] == {"annotation": ["annot3"]}
  bare = records[2]
  del bare["activity"]
  with pytest.raises(ValueError, match="sequence TS3 has no activity"):
    clip_source([bare])


@pytest.mark.parametrize("name", ["3dhp", "3dpw_14", "h36m_p2"])
def test_a_denoiser_that_knows_the_answer_scores_perfectly(name):
  records = dhp_records()[:2]
  for r, action in zip(records, ("Sitting", "SittingDown")):
    r["action"] = action
  source, chosen = clip_source(records), protocols.PROTOCOLS[name]
  clips = [source[i] for i in range(len(source))]
  keys = np.stack([clip["keypoints"] for clip in clips])
  truth = skeleton.root_centre(np.stack([clip["poses"] for clip in clips]))

  def make_denoiser(offset):
    at = lambda keypoints: ((keypoints[:, None] - keys) ** 2).sum((-1, -2, -3)).argmin(1)
    return lambda keypoints, noisy, t: jnp.asarray(truth)[at(keypoints)] + offset * (jnp.arange(17) == 3)[:, None]

  measure = functools.partial(protocols.frame_scores, chosen)
  score = evaluate.make_scorer(make_denoiser, evaluate.EvaluateConfig(), measure)
  row = evaluate.evaluate_protocol(score, jnp.zeros(3), source, 8, chosen)
  assert row["counts"]["frames"] == sum(r["valid"].sum() for r in records)
  for value, s in zip(row["result"].values(), chosen.scores, strict=True):
    expected = {"mpjpe": 0, "p_mpjpe": 0, "pck": 100, "auc": PERFECT_AUC}[s.kind]
    assert value == pytest.approx(expected, rel=1e-6, abs=0.01 if s.kind == "p_mpjpe" else 0)
  if name == "3dhp":  # one scored joint 160 mm off
    result = evaluate.evaluate_protocol(score, jnp.array([0, 0, 0.16]), source, 8, chosen)["result"]
    assert result["mpjpe_17_mm"] == pytest.approx(160 / 17, rel=1e-5)
    assert result["pck_percent"] == pytest.approx(100 * 13 / 14) and result["auc_percent"] == pytest.approx(PERFECT_AUC * 13 / 14)


@pytest.mark.parametrize("name", NAMES)
def test_row_and_table_carry_protocol_and_counts_and_no_figure_of_the_paper(name):
  chosen = protocols.PROTOCOLS[name]
  label = next(iter(chosen.groupings[0].members or {"downtown_walking_00": ""}))
  row = json.loads(json.dumps(rated(name, {label: [1.0, 2.0]}, activity=1)))
  described = evaluate.protocol(chosen.dataset, chosen.split, 50.0, evaluate.EvaluateConfig(), chosen)
  table = tally.table(row | {"protocol": described})
  for text in (f"protocol={name}", f"dataset={chosen.dataset}", f"split={chosen.split}", "frames 2", "joints", label):
    assert text in table
  figures = [str(v) for _, _, *values in chosen.paper.rows for v in values if v is not None]
  assert not any(figure in json.dumps(row) or figure in table for figure in figures)
  lines = protocols.paper_figures(chosen).splitlines()
  assert len(lines) == len(chosen.paper.rows) + 2 and all(line.startswith("paper  ") for line in lines)
  assert all(figure in "\n".join(lines) for figure in figures)


def test_the_source_of_2d_is_named():
  named = lambda dataset: evaluate.protocol(dataset, "test", 50.0, evaluate.EvaluateConfig())["keypoints_2d"]
  assert named("human36m/cpn_ft_h36m_dbb") == "cpn_ft_h36m_dbb" and named("threedpw/regressor_detected") == "detected"
  assert {named(p.dataset) for p in protocols.PROTOCOLS.values()} == {"gt"}


def test_figures_of_the_paper():
  assert paper_tables.TABLE_1.rows[-1] == ("PoSynDA", "S1", 48.1, 33.2)
  assert paper_tables.TABLE_2.rows[-1] == ("PoSynDA (MixSTE)", "CD", 58.2, 93.5, 59.6)
  assert paper_tables.TABLE_4.rows[-1] == ("PoSynDA", "CD", 45.4, 75.5)
  assert {row[1] for row in protocols.PROTOCOLS["h36m_p1"].paper.rows} == {"Full"}
  for name in ("h36m_s1_to_s5678", "h36m_s1_to_s9s11"):
    assert {row[1] for row in protocols.PROTOCOLS[name].paper.rows} == {"S1"}
  splits = {name: protocols.PROTOCOLS[name].split for name in NAMES if name.startswith("h36m")}
  assert splits == {"h36m_p1": "S9+S11", "h36m_p2": "S9+S11", "h36m_s1_to_s5678": "S5+S6+S7+S8", "h36m_s1_to_s9s11": "S9+S11"}


COMMAND = """
import sys, types
from absl import flags
from experiments import common, evaluate
from tests.evaluation import test_protocols

model = types.SimpleNamespace(num_frames=9)
base = types.SimpleNamespace(model=model, params=None, digest="none", view=(), clip_fps=25.0, diffusion_steps=1000)
common.load_weights = lambda *_: (base, None, 1.0)
evaluate.adapt.make_denoiser = lambda *weights: lambda keypoints, noisy, t: 0 * noisy
common.load_records = lambda name, split: {("mpi_inf_3dhp/processed", "test"): test_protocols.dhp_records()}[name, split]
run, protocol = f"--run={sys.argv[1]}", "--protocol=3dhp"
flags.FLAGS(["evaluate", run, protocol, "--dataset=mpi_inf_3dhp/processed"])
evaluate.main()
for wrong in ([run], [run, protocol, "--split=TS1"], [run, protocol, "--dataset=threedpw/approx_gt"]):
  flags.FLAGS.unparse_flags()
  for name in ("run", "dataset", "split", "protocol"):
    flags.FLAGS[name].unparse()
  flags.FLAGS(["evaluate", *wrong])
  try:
    evaluate.main()
  except ValueError as error:
    print("refused:", error)
"""


def test_the_command_writes_the_row_and_prints_the_table_beside_the_paper(tmp_path):
  out = subprocess.run([sys.executable, "-c", COMMAND, tmp_path], capture_output=True, text=True)
  assert out.returncode == 0, out.stderr
  row = json.loads((tmp_path / "evaluations.jsonl").read_text())
  assert row["protocol"]["protocol"] == "3dhp" and row["protocol"]["dataset"] == "mpi_inf_3dhp/processed"
  assert row["counts"]["frames"] == sum(r["valid"].sum() for r in dhp_records())
  assert set(row["groups"]) == {"sequence", "scene", "activity"} and row["protocol"]["keypoints_2d"] == "gt"
  assert f"{row['result']['mpjpe_17_mm']:.2f}" in out.stdout
  assert sum(line.startswith("paper  ") for line in out.stdout.splitlines()) == 19
  for refusal in ("--dataset or --protocol is needed", "--split=TS1 contradicts", "--dataset=threedpw/approx_gt is not"):
    assert f"refused: {refusal}" in out.stdout
