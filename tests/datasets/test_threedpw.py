"""3DPW from files in its true format: what the builder reads, SMPL's laws, what `data_prep` finds, and what is refused."""

import json
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from data_prep import threedpw
from posynda_jax.data import pipeline, safe_pickle
from posynda_jax.datasets import load
from posynda_jax.datasets.threedpw import dummy_data, joints, published, smpl
from posynda_jax.geometry import camera, skeleton

ROOT = pathlib.Path(__file__).parents[2]
ENDS = dummy_data.H36M_ENDS


def by_name(points: dict[str, np.ndarray]) -> np.ndarray:
  """Human3.6M-17 joints [T 17 c] of points by name, SMPL's or OpenPose's."""
  if "pelvis" in points:
    trunk = [points["spine2"], points["neck"], (points["neck"] + points["head"]) / 2, points["head"]]
    return np.stack([points["pelvis"], *(points[n] for n in ENDS[:6]), *trunk, *(points[n] for n in ENDS[6:])], 1)
  pelvis = (points["left_hip"] + points["right_hip"]) / 2
  thorax = (points["left_shoulder"] + points["right_shoulder"]) / 2
  trunk = [(pelvis + thorax) / 2, thorax, points["nose"], (points["left_eye"] + points["right_eye"]) / 2]
  return np.stack([pelvis, *(points[n] for n in ENDS[:6]), *trunk, *(points[n] for n in ENDS[6:])], 1)


@pytest.fixture(scope="module")
def manual_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("manual")


@pytest.fixture(scope="module")
def truth(manual_dir):
  dummy_data.write_smpl(manual_dir)
  return dummy_data.write(manual_dir)


@pytest.fixture(scope="module")
def opened(truth, manual_dir, tmp_path_factory):
  """A function (config, split) -> records of the small 3DPW."""
  data_dir = tmp_path_factory.mktemp("data")
  return lambda config, split: load.load(f"threedpw/{config}", split, data_dir=data_dir, manual_dir=manual_dir)


def number(record: dict) -> tuple[str, int]:
  return record["sequence"], int(record["subject"].rpartition("_")[2])


def test_files_are_pickles_of_python_2(manual_dir, truth):
  content = (manual_dir / "sequenceFiles/test/downtown_walking_00.pkl").read_bytes()
  assert b"_codecs" not in content and b"numpy.core.multiarray\n_reconstruct" in content
  with pytest.raises(UnicodeDecodeError):
    pickle.loads(content)
  read = pickle.loads(content, encoding="latin1")
  np.testing.assert_equal(read, truth["downtown_walking_00", 0]["content"])


def test_there_is_a_record_an_actor(opened):
  records = opened("approx_gt", "train+validation+test")
  assert [(r["sequence"], r["subject"], r["action"], r["camera"]) for r in records] == [
      ("courtyard_basketball_00", "courtyard_basketball_00_0", "courtyard_basketball", "cam"),
      ("courtyard_basketball_00", "courtyard_basketball_00_1", "courtyard_basketball", "cam"),
      ("outdoors_slalom_00", "outdoors_slalom_00_0", "outdoors_slalom", "cam"),
      ("outdoors_golf_00", "outdoors_golf_00_0", "outdoors_golf", "cam"),
      ("downtown_walking_00", "downtown_walking_00_0", "downtown_walking", "cam"),
      ("downtown_walking_00", "downtown_walking_00_1", "downtown_walking", "cam"),
      ("flat_guitar_01", "flat_guitar_01_0", "flat_guitar", "cam"),
  ]
  portrait, landscape = (1080, 1920), (1920, 1080)
  assert [tuple(r["resolution"]) for r in records] == [portrait] * 2 + [landscape] * 2 + [portrait] * 2 + [landscape]
  assert {float(r["fps"]) for r in records} == {30} and {r["joints_source"] for r in records} == {"smpl_joints_approximate"}


def test_poses_and_projections_come_back_to_float32_rounding(opened, truth):
  for record in opened("approx_gt", "train+validation+test"):
    view = truth[number(record)]
    np.testing.assert_array_equal(record["poses_camera_m"], by_name(view["camera"]).astype(np.float32))
    np.testing.assert_array_equal(record["valid"], view["valid"])
    assert not record["valid"][0] and record["valid"].any()
    assert (record["confidence"] == 1).all()
    spec = {s.name: s for s in dummy_data.SPECS}[record["sequence"]]
    assert len(record["valid"]) == spec.frames
    matrix = view["content"]["cam_intrinsics"]
    expected = [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(record["intrinsics"], np.float32(expected))
    image = by_name(view["camera"]) @ matrix.T
    np.testing.assert_allclose(record["keypoints_px"][1:], (image[..., :2] / image[..., 2:])[1:], atol=1e-3)


def test_detected_keypoints_are_openposes_with_their_confidence(opened, truth):
  for record in opened("approx_detected", "train+validation+test"):
    found = truth[number(record)]["detected"]
    seen = np.ones((len(record["valid"]), 17), bool)
    seen[2] = False
    seen[3, 10] = False  # the left eye, and with it the head
    expected = np.where(seen[..., None], by_name({n: p[:, :2] for n, p in found.items()}), 0)
    np.testing.assert_allclose(record["keypoints_px"], expected, rtol=1e-6)
    np.testing.assert_array_equal(record["confidence"] > 0, seen)
    hips, shoulders = ["left_hip", "right_hip"], ["left_shoulder", "right_shoulder"]
    for joint, names in {13: ["left_wrist"], 0: hips, 7: hips + shoulders, 8: shoulders, 9: ["nose"]}.items():
      least = np.min([found[name][:, 2] for name in names], 0)
      np.testing.assert_array_equal(record["confidence"][:, joint], np.float32(least))
    np.testing.assert_array_equal(record["num_detected"][:5], [18, 18, 0, 17, 18])


def test_both_2d_sources_have_the_same_3d(opened):
  for exact, detected in zip(opened("approx", "test"), opened("approx_detected", "test"), strict=True):
    for name in ("poses_camera_m", "valid", "intrinsics", "num_detected", "subject"):
      np.testing.assert_array_equal(exact[name], detected[name])
    error = np.linalg.norm(exact["keypoints_px"] - detected["keypoints_px"], axis=-1)[1, [2, 3, 5, 6, *range(11, 17)]]
    assert 0 < error.max() < 10


def test_whoever_is_behind_the_camera_is_not_seen(tmp_path):
  def turn_away(content):
    content["cam_poses"][4] = np.diag([1.0, 1, -1, 1]) @ content["cam_poses"][4]

  dummy_data.write(tmp_path, spoil=turn_away)
  record = load.load("threedpw/approx_gt", "test", data_dir=tmp_path, manual_dir=tmp_path)[0]
  assert not record["confidence"][4].any() and record["confidence"][[3, 5]].all() and record["valid"][4]
  track = pipeline.make_tracks([record], pipeline.LABELLED, 30)[0]
  np.testing.assert_array_equal(track.arrays["valid"], [0, 1, 1, 1, 0] + [1] * 9)


def test_the_pipeline_scores_only_aligned_frames_with_a_person(opened):
  tracks = pipeline.make_tracks(opened("approx_detected", "test"), pipeline.LABELLED, 50)
  np.testing.assert_array_equal(tracks[1].arrays["valid"], [0, 1, 0, 1, 1, 0] + [1] * 8)
  portrait = (tracks[0].arrays["keypoints"] * 1080 + [1080, 1920]) / 2  # both axes were divided by half the width
  np.testing.assert_allclose(portrait[3], opened("approx_detected", "test")[0]["keypoints_px"][3], atol=1e-3)


def test_the_official_zip_is_read_as_it_is(tmp_path, opened, manual_dir):
  shutil.make_archive(tmp_path / "sequenceFiles", "zip", manual_dir, "sequenceFiles")
  records = load.load("threedpw/approx", "train", data_dir=tmp_path, manual_dir=tmp_path)
  for a, b in zip(records, opened("approx", "train"), strict=True):
    np.testing.assert_equal(a, b)


# SMPL


def skin(model: smpl.Model, pose: np.ndarray, betas: np.ndarray, trans: np.ndarray) -> np.ndarray:
  """Vertices [V 3] of one frame as the paper writes them: blend shapes, then a 4x4 matrix a vertex. The slow, plain way."""
  shaped = model.v_template + np.einsum("vcb,b->vc", model.shapedirs, betas)
  rest = model.joint_regressor @ shaped
  turns = [matrix(*angles) for angles in pose.reshape(-1, 3)]
  posed = shaped + np.einsum("vcp,p->vc", model.posedirs, np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]]))
  world = []
  for joint, parent in enumerate(model.parents):
    local = np.eye(4)
    local[:3, :3] = turns[joint]
    local[:3, 3] = rest[joint] - (rest[parent] if joint else 0)
    world.append(world[parent] @ local if joint else local)
  unposed = [np.block([[np.eye(3), -rest[j][:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]) for j in range(len(rest))]
  vertices = []
  for vertex, weights in zip(posed, model.weights):
    blend = sum(w * world[j] @ unposed[j] for j, w in enumerate(weights))
    vertices.append((blend @ np.append(vertex, 1))[:3])
  return np.array(vertices) + trans


def matrix(*axis_angle) -> np.ndarray:
  """exp of the cross-product matrix, by its series."""
  x, y, z = axis_angle
  cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
  term, total = np.eye(3), np.eye(3)
  for n in range(1, 40):
    term = term @ cross / n
    total = total + term
  return total


@pytest.fixture(scope="module")
def model(manual_dir, truth):
  return smpl.load_model(manual_dir / "smpl/SMPL_FEMALE.npz")


def test_regressing_equals_skinning_every_vertex(model, manual_dir):
  rng = np.random.default_rng(0)
  poses, betas, trans = rng.normal(0, 0.7, (5, 72)), rng.normal(size=10), rng.normal(size=(5, 3))
  poses[0] = 0
  regressor = smpl.load_regressor(manual_dir / "smpl/J_regressor_h36m.npy")
  vertices = np.stack([skin(model, pose, betas, t) for pose, t in zip(poses, trans)])
  np.testing.assert_allclose(smpl.regress(model, np.eye(48), poses, betas, trans), vertices, atol=1e-12)
  np.testing.assert_allclose(smpl.regress(model, 0.9 * regressor, poses, betas, trans), 0.9 * regressor @ vertices, atol=1e-12)


def test_without_pose_smpl_is_its_template_and_shape(model, manual_dir):
  file = np.load(manual_dir / "smpl/SMPL_FEMALE.npz")  # with 300 shape components, of which SMPL's 10 come first
  betas, still = np.arange(10) / 10, np.zeros((1, 72))
  vertices = smpl.regress(model, np.eye(48), still, betas, np.zeros((1, 3)))[0]
  np.testing.assert_allclose(vertices, file["v_template"] + file["shapedirs"][..., :10] @ betas, atol=1e-14)
  moved = smpl.regress(model, np.eye(48), still, betas, np.array([[1.0, 2, 3]]))[0]
  np.testing.assert_allclose(moved, vertices + [1, 2, 3], atol=1e-14)


def test_a_global_rotation_turns_smpl_about_its_root(model):
  rng = np.random.default_rng(1)
  pose, betas, trans = rng.normal(0, 0.5, (1, 72)), rng.normal(size=10), np.zeros((1, 3))
  pose[0, :3] = 0
  turned = pose.copy()
  turned[0, :3] = [0.3, -1.2, 0.7]
  a, b = (smpl.regress(model, np.eye(48), p, betas, trans)[0] for p in (pose, turned))
  root = model.joint_regressor[0] @ (model.v_template + model.shapedirs @ betas)
  np.testing.assert_allclose(b - root, (a - root) @ matrix(0.3, -1.2, 0.7).T, atol=1e-12)
  assert np.abs(a - b).max() > 0.1


def test_regressor_records_are_the_posed_mesh_in_the_camera(opened, truth, manual_dir):
  regressor = np.load(manual_dir / "smpl/J_regressor_h36m.npy")
  models = {g: smpl.load_model(manual_dir / f"smpl/SMPL_{n}.npz") for g, n in (("m", "MALE"), ("f", "FEMALE"))}
  order = [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]
  for record in opened("regressor_gt", "test"):
    sequence, actor = number(record)
    content = truth[sequence, actor]["content"]
    for frame in (0, 5):
      parameters = content["poses"][actor][frame], content["betas"][actor][:10], content["trans"][actor][frame]
      world = (regressor @ skin(models[content["genders"][actor]], *parameters))[order]
      pose = content["cam_poses"][frame]
      np.testing.assert_allclose(record["poses_camera_m"][frame], world @ pose[:3, :3].T + pose[:3, 3], atol=3e-6)
    assert record["joints_source"] == "smpl_h36m_regressor"
    projected = camera.project_linear(record["poses_camera_m"], record["intrinsics"])
    np.testing.assert_allclose(record["keypoints_px"], projected, rtol=1e-5)


def test_the_legs_of_the_regressor_are_exchanged_back(model, manual_dir):
  """At rest the made-up regressor and the approximation take joints from the same places, which tells the order."""
  regressor = smpl.load_regressor(manual_dir / "smpl/J_regressor_h36m.npy")
  rest = (model.joint_regressor @ model.v_template)[None]
  at_rest = smpl.regress(model, regressor, np.zeros((1, 72)), np.zeros(10), np.zeros((1, 3)))
  np.testing.assert_allclose(skeleton.to_h36m(at_rest, "spin17"), joints.from_smpl24(rest), atol=1e-12)


def test_the_14_joints_of_readme_are_those_of_the_mesh_papers():
  mesh = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]  # SPIN's and VIBE's H36M_TO_J14, of the regressor's own order
  ours = [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]
  assert str(ours) in (ROOT / "posynda_jax/datasets/threedpw/README.md").read_text()
  own = np.arange(17.0)[:, None]
  np.testing.assert_array_equal(skeleton.to_h36m(own, "spin17")[ours], own[mesh])
  assert [skeleton.JOINTS[j].split("_")[0] for j in ours[:6]] == ["right"] * 3 + ["left"] * 3


class Ch:
  """Stands for chumpy's arrays, of which the official SMPL files are full."""

  def __init__(self):
    self.x = np.zeros((6890, 3))


def test_smpls_own_pickle_is_refused_with_the_layout_that_serves(tmp_path, monkeypatch):
  for module in ("chumpy", "chumpy.ch"):
    monkeypatch.setitem(sys.modules, module, type(sys)(module))
  monkeypatch.setattr(Ch, "__module__", "chumpy.ch")
  sys.modules["chumpy.ch"].Ch = Ch
  path = tmp_path / "basicmodel_m_lbs_10_207_0_v1.1.0.pkl"
  path.write_bytes(pickle.dumps({"v_template": np.zeros((6890, 3)), "shapedirs": Ch()}, protocol=2))
  message = r"chumpy\.ch\.Ch, which is not plain data.*npz file.*v_template \[6890 3\]"
  with pytest.raises(safe_pickle.Refused, match=message) as error:
    smpl.load_model(path.with_suffix(".npz"))  # there is only the pkl beside it
  assert "\n" not in str(error.value)
  sparse = pytest.importorskip("scipy.sparse")
  np.savez(tmp_path / "SMPL_MALE.npz", J_regressor=np.array(sparse.csc_matrix(np.eye(3)), dtype=object))
  with pytest.raises(safe_pickle.Refused, match=r"scipy\.sparse.* dense"):
    smpl.load_model(tmp_path / "SMPL_MALE.npz")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weights": None}, "no 'weights'"),
        ({"J_regressor": np.zeros((24, 47))}, r"J_regressor has shape \(24, 47\), expected \(24, 48\)"),
        ({"shapedirs": np.zeros((48, 3, 9))}, r"shapedirs has shape \(48, 3, 9\), expected \(48, 3, 10\)"),
        ({"kintree_table": np.full((2, 24), 23)}, "no tree of 24 joints"),
    ],
)
def test_what_is_no_smpl_model_is_refused(tmp_path, manual_dir, truth, change, message):
  arrays = {**np.load(manual_dir / "smpl/SMPL_MALE.npz"), **change}
  np.savez(tmp_path / "model.npz", **{k: v for k, v in arrays.items() if v is not None})
  with pytest.raises(ValueError, match=f"model.npz is not an SMPL model .*{message}.*expected an npz"):
    smpl.load_model(tmp_path / "model.npz")


def test_a_missing_smpl_file_is_named(tmp_path, truth, manual_dir):
  shutil.copytree(manual_dir, tmp_path / "manual")
  for name in ("SMPL_FEMALE.npz", "J_regressor_h36m.npy"):
    (tmp_path / "manual/smpl" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist"):
      load.load("threedpw/regressor", "test", data_dir=tmp_path, manual_dir=tmp_path / "manual")


# Refusals


class Payload:
  """A pickle that would create a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", ["pkl", "npz", "npy"])
def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, truth, manual_dir, suffix):
  shutil.copytree(manual_dir, tmp_path / "manual")
  mark = tmp_path / "ran"
  pickle.loads(pickle.dumps(Payload(mark)))
  assert mark.exists()  # it would run
  mark.unlink()
  if suffix == "pkl":
    path, config = tmp_path / "manual/sequenceFiles/train/outdoors_slalom_00.pkl", "approx"
    path.write_bytes(pickle.dumps({"sequence": Payload(mark)}, protocol=2))
  else:
    path, config = tmp_path / "manual/smpl" / {"npz": "SMPL_MALE.npz", "npy": "J_regressor_h36m.npy"}[suffix], "regressor"
    value = np.array([[Payload(mark)]], dtype=object)
    np.savez(path, v_template=value) if suffix == "npz" else np.save(path, value)
  with pytest.raises(ValueError, match=rf"{path.name}.*names \S*open, which is not plain data.* nothing of it was run"):
    load.load(f"threedpw/{config}", "train", data_dir=tmp_path, manual_dir=tmp_path / "manual")
  faults = [f for f in threedpw.inspect(tmp_path / "manual") if f.level == "fault"]
  assert len(faults) == 1 and "not plain data" in faults[0].what
  assert not mark.exists()


def damage(path: pathlib.Path, keep: float) -> None:
  content = path.read_bytes()
  path.write_bytes(content[: int(len(content) * keep)])


@pytest.mark.parametrize("keep", [0, 0.5, 0.9999])
def test_a_truncated_file_stops_the_build_by_name(tmp_path, keep):
  dummy_data.write(tmp_path)
  damage(tmp_path / "sequenceFiles/test/flat_guitar_01.pkl", keep)
  with pytest.raises(ValueError, match="flat_guitar_01.pkl is not a whole pickle"):
    load.load("threedpw/approx", "test", data_dir=tmp_path / "data", manual_dir=tmp_path)
  assert ["test/flat_guitar_01.pkl"] == [f.where for f in threedpw.inspect(tmp_path) if f.level == "fault"]


def test_a_zip_that_leads_outside_is_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "sequenceFiles.zip", "w") as file:
    file.writestr("sequenceFiles/train/../../../x.pkl", b"")
  with pytest.raises(ValueError, match="leads outside the archive"):
    threedpw.gather(tmp_path, tmp_path / "out")
  assert not (tmp_path / "out").exists()
  assert ["leads outside" in f.what for f in threedpw.inspect(tmp_path)] == [True]


# data_prep


def test_the_clean_files_have_no_fault_and_their_gaps_are_told(manual_dir, truth):
  findings = list(threedpw.inspect(manual_dir))
  assert not [f for f in findings if f.level == "fault"]
  warnings = [f.what for f in findings if f.level == "warning"]
  assert "11 of 12 sequences are missing: courtyard_basketball_01, courtyard_dancing_00" in " ".join(warnings)
  assert "2 actors and 14 frames, published are 2 and 1387" in warnings
  assert len(warnings) == 3 + len(dummy_data.SPECS)


def test_the_whole_set_has_nothing_to_tell(tmp_path, monkeypatch):
  monkeypatch.setattr(published, "SEQUENCES", {split: {} for split in published.SEQUENCES})
  for spec in dummy_data.SPECS:
    published.SEQUENCES[spec.split][spec.name] = spec.actors, spec.frames
  dummy_data.write(tmp_path)
  assert not list(threedpw.inspect(tmp_path))


def test_published_counts_are_the_papers():
  counts = {split: (len(names), sum(a for a, _ in names.values())) for split, names in published.SEQUENCES.items()}
  assert counts == {"train": (24, 34), "validation": (12, 16), "test": (24, 37)}
  assert sum(frames for names in published.SEQUENCES.values() for _, frames in names.values()) == 52_653
  assert len({name for names in published.SEQUENCES.values() for name in names}) == 60


def swap_sides(content, key="jointPositions"):
  names = list(dummy_data.SMPL)
  other = [names.index(n.replace("left", "?").replace("right", "left").replace("?", "right")) for n in names]
  content[key] = [a.reshape(-1, 24, 3)[:, other].reshape(a.shape) for a in content[key]]


def another_order(content):
  order = [*range(3, 24), 0, 1, 2]
  content["jointPositions"] = [a.reshape(-1, 24, 3)[:, order].reshape(a.shape) for a in content["jointPositions"]]


def millimetres(content):
  content["jointPositions"] = [1000 * a for a in content["jointPositions"]]


def upside_down(content):
  content["cam_poses"] = np.diag([1.0, -1, -1, 1]) @ content["cam_poses"]


def other_actor_first(content):
  content["poses2d"] = [a.copy() for a in content["poses2d"][::-1]]


def half_size(content):
  content["cam_intrinsics"] = content["cam_intrinsics"] * [[0.5], [0.5], [1]]


def other_phone(content):
  content["cam_intrinsics"] = content["cam_intrinsics"] * [[0.5, 1, 1], [1, 0.5, 1], [1, 1, 1]]


def fewer_frames(content):
  content["poses2d"] = [a[:-1] for a in content["poses2d"]]


def drop(key):
  return lambda content: content.pop(key)


def not_a_number(content):
  content["jointPositions"][0][4, 7] = np.nan


def skewed(content):
  content["cam_poses"][:, :3, :3] *= 1.1


FAULTS = {
    "sides exchanged": (swap_sides, "left and right are exchanged|knees bend backward"),
    "another joint order": (another_order, "apart|head is below|misses the 2D"),
    "millimetres": (millimetres, "looks like millimetres"),
    "y up": (upside_down, "head is below the pelvis"),
    "actors exchanged": (other_actor_first, "misses the 2D by .* they fit actor 1: exchange the actors"),
    "half resolution": (half_size, "centre of neither a 1920x1080 nor a 1080x1920 image"),
    "another focal length": (other_phone, "misses the 2D by"),
    "frame counts": (fewer_frames, r"poses2d has shape \(13, 3, 18\), expected \(14, 3, 18\) \(cam_poses tells the number"),
    "missing key": (drop("cam_poses"), "has no cam_poses"),
    "missing actor": (lambda c: c["jointPositions"].pop(), "has not one or two actors in every key"),
    "another name": (lambda c: c.update(sequence="x_00"), "says it is the sequence 'x_00'"),
    "not a number": (not_a_number, "not a finite number"),
    "no rigid motion": (skewed, "no rigid motions"),
}


@pytest.mark.parametrize("spoil, message", FAULTS.values(), ids=FAULTS)
def test_every_planted_fault_is_found(tmp_path, spoil, message):
  clean, planted = dummy_data.SPECS[:3], dummy_data.Spec("test", "downtown_walking_00", 2, 14, True)
  dummy_data.write(tmp_path, clean)
  dummy_data.write(tmp_path, [planted], spoil=spoil)
  faults = [f for f in threedpw.inspect(tmp_path) if f.level == "fault"]
  assert faults and {f.where.split(",")[0] for f in faults} == {"test/downtown_walking_00.pkl"}
  assert re.search(message, " ".join(f"{f.what} {f.fix}" for f in faults)), faults
  assert all(f.fix for f in faults)


def test_missing_and_misplaced_files_are_found(tmp_path):
  dummy_data.write(tmp_path, dummy_data.SPECS[:3])
  assert "no <sequence>.pkl in test" in next(iter(threedpw.inspect(tmp_path))).what
  dummy_data.write(tmp_path, [dummy_data.Spec("test", "courtyard_hug_00", 2, 14, True)])
  faults = [f for f in threedpw.inspect(tmp_path / "sequenceFiles") if f.level == "fault"]
  assert [(f.where, f.what) for f in faults] == [("test/courtyard_hug_00.pkl", "belongs to the split validation")]
  assert "found neither" in next(iter(threedpw.inspect(tmp_path / "nowhere"))).what


def test_an_unscored_sequence_is_told(tmp_path):
  dummy_data.write(tmp_path, spoil=lambda content: content.update(campose_valid=[0 * v for v in content["campose_valid"]]))
  assert "no frame is valid (campose_valid)" in [f.what for f in threedpw.inspect(tmp_path) if f.level == "warning"]


def test_the_command_gathers_counts_and_leaves_finished_files_alone(tmp_path, manual_dir, truth, capsys):
  shutil.make_archive(tmp_path / "sequenceFiles", "zip", manual_dir, "sequenceFiles")
  flags = f"--path={tmp_path}", f"--output={tmp_path / 'out'}", f"--smpl={manual_dir / 'smpl'}"
  done = subprocess.run([sys.executable, "-m", "data_prep.threedpw", *flags], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "8 files written, 0 already there and left alone" in done.stdout
  rows = [line.split() for line in done.stdout.splitlines()[-5:-1]]
  assert rows == [
      ["split", "sequences", "actors", "frames", "valid", "detected"],
      ["train", "2", "3", "33", "29", "26"],
      ["validation", "1", "1", "10", "9", "8"],
      ["test", "2", "3", "36", "32", "29"],
  ]
  stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.*")}
  threedpw.prepare(tmp_path, tmp_path / "out")
  assert "0 files written, 5 already there and left alone" in capsys.readouterr().out
  assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.*")}
  records = load.load("threedpw/regressor", "test", data_dir=tmp_path / "data", manual_dir=tmp_path / "out")
  assert len(records) == 3


EVALUATE = """
import sys, types
from absl import flags
from experiments import common, evaluate

model = types.SimpleNamespace(num_frames=9)
base = types.SimpleNamespace(model=model, params=None, digest="none", view=(), clip_fps=30.0, diffusion_steps=1000)
common.load_weights = lambda *_: (base, None, 1.0)
evaluate.adapt.make_denoiser = lambda *weights: lambda keypoints, noisy, t: 0 * noisy
flags.FLAGS(["evaluate", *sys.argv[1:]])
evaluate.main()
"""


def test_the_mesh_protocol_scores_a_built_download_through_the_command(tmp_path, opened, manual_dir):
  """A lifter that answers with the root everywhere is off by each joint's distance from the middle of the hips."""
  flags = f"--run={tmp_path}", "--protocol=3dpw_14", f"--manual_dir={manual_dir}", f"--data_dir={tmp_path / 'data'}"
  done = subprocess.run([sys.executable, "-c", EVALUATE, *flags], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  row = json.loads((tmp_path / "evaluations.jsonl").read_text())
  poses = np.concatenate([r["poses_camera_m"][r["valid"]] for r in opened("regressor_gt", "test")])
  poses = poses - (poses[:, 1:2] + poses[:, 4:5]) / 2
  assert row["counts"]["frames"] == len(poses) == 32
  expected = 1000 * np.linalg.norm(poses[:, [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]], axis=-1).mean()
  assert row["result"]["mpjpe_mm"] == pytest.approx(expected, rel=1e-5)
  assert row["records"]["joints_source"] == ["smpl_h36m_regressor"]


def test_a_fault_stops_the_command_before_it_writes(tmp_path):
  dummy_data.write(tmp_path / "in", spoil=millimetres)
  with pytest.raises(ValueError, match="faults in .*, nothing was written: mend them first"):
    threedpw.prepare(tmp_path / "in", tmp_path / "out")
  assert not (tmp_path / "out").exists()
