"""3DPW records from small files in the true format."""

import pathlib
import shutil

import numpy as np
import pytest

from posynda_jax.data import tracks
from posynda_jax.datasets import load
from posynda_jax.datasets.threedpw import sequence_file, smpl
from posynda_jax.geometry import camera, skeleton
from tests import ROOT
from tests.datasets import dummy_threedpw as dummy_data
from tests.datasets import test_smpl
from tests.tolerance import assert_close

ENDS = dummy_data.H36M_ENDS
ALL = "train+validation+test"
MESH_14 = [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]


def by_name(points: dict[str, np.ndarray], detected: bool = False) -> np.ndarray:
  """Human3.6M-17 joints [T 17 c] of points by name, SMPL's or OpenPose's."""

  def mean(*names):
    return np.mean([points[name] for name in names], 0)

  hips, shoulders = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
  if detected:
    pelvis, thorax = mean(*hips), mean(*shoulders)
    trunk = [(pelvis + thorax) / 2, thorax, points["nose"], mean("left_eye", "right_eye")]
  else:
    pelvis, trunk = points["pelvis"], [points["spine2"], points["neck"], mean("neck", "head"), points["head"]]
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


def test_files_of_python_2_are_read():
  with pytest.raises(ValueError, match="x.pkl: has no cam_poses"):  # in Latin-1, as the texts of Python 2 need
    sequence_file.parse(b"\x80\x02}U\x08sequenceU\x04caf\xe9s.", "x.pkl")


def test_there_is_one_record_for_each_actor_with_its_poses_and_projections(opened, truth):
  records = opened("approx_gt", ALL)
  expected = [(spec, actor) for spec in dummy_data.SPECS for actor in range(spec.actors)]
  for record, (spec, actor) in zip(records, expected, strict=True):
    assert (record["sequence"], record["subject"], record["camera"]) == (spec.name, f"{spec.name}_{actor}", "cam")
    assert record["action"] == spec.name[:-3] and record["fps"] == 30 and len(record["valid"]) == spec.frames
    assert tuple(record["resolution"]) == ((1080, 1920) if spec.portrait else (1920, 1080))
    assert record["joints_source"] == "smpl_joints_approximate"
    view = truth[number(record)]
    assert_close(record["poses_camera_m"], by_name(view["camera"]))
    np.testing.assert_array_equal(record["valid"], view["valid"])
    assert not record["valid"][0] and record["valid"].any() and (record["confidence"] == 1).all()
    matrix = view["content"]["cam_intrinsics"]
    intrinsics = [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(record["intrinsics"], np.float32(intrinsics))
    image = by_name(view["camera"]) @ matrix.T
    np.testing.assert_allclose(record["keypoints_px"][1:], (image[..., :2] / image[..., 2:])[1:], atol=1e-3)


def test_detected_keypoints_are_openposes_with_their_confidence(opened, truth):
  for record in opened("approx_detected", ALL):
    found = truth[number(record)]["detected"]
    detected = np.ones((len(record["valid"]), 17), bool)
    detected[2] = False
    detected[3, 10] = False  # the left eye is missing, and so is the head
    expected = by_name({name: points[:, :2] for name, points in found.items()}, detected=True)
    assert_close(record["keypoints_px"], np.where(detected[..., None], expected, 0))
    np.testing.assert_array_equal(record["confidence"] > 0, detected)
    hips, shoulders = ["left_hip", "right_hip"], ["left_shoulder", "right_shoulder"]
    for joint, names in {13: ["left_wrist"], 0: hips, 7: hips + shoulders, 8: shoulders, 9: ["nose"]}.items():
      least = np.min([found[name][:, 2] for name in names], 0)
      np.testing.assert_array_equal(record["confidence"][:, joint], np.float32(least))
    np.testing.assert_array_equal(record["num_detected"][:5], [18, 18, 0, 17, 18])
    assert_close(record["poses_camera_m"], by_name(truth[number(record)]["camera"]))


def test_joints_behind_the_camera_have_no_confidence(tmp_path):
  def turn_away(content):
    content["cam_poses"][4] = np.diag([1.0, 1, -1, 1]) @ content["cam_poses"][4]

  dummy_data.write(tmp_path, spoil=turn_away)
  record = load.load("threedpw/approx_gt", "test", data_dir=tmp_path, manual_dir=tmp_path)[0]
  assert not record["confidence"][4].any() and record["confidence"][[3, 5]].all() and record["valid"][4]
  track = tracks.make_tracks([record], tracks.LABELLED, 30)[0]
  np.testing.assert_array_equal(track.arrays["valid"], [0, 1, 1, 1, 0] + [1] * 9)


def test_tracks_are_valid_only_in_aligned_frames_with_a_person(opened):
  records = opened("approx_detected", "test")
  first, second = tracks.make_tracks(records, tracks.LABELLED, 50)[:2]
  np.testing.assert_array_equal(second.arrays["valid"], [0, 1, 0, 1, 1, 0] + [1] * 8)
  portrait = (first.arrays["keypoints"] * 1080 + [1080, 1920]) / 2  # both axes were divided by half the width
  np.testing.assert_allclose(portrait[3], records[0]["keypoints_px"][3], atol=1e-3)


def test_regressor_records_are_the_posed_mesh_in_the_camera(opened, truth, manual_dir):
  regressor = np.load(manual_dir / "smpl/J_regressor_h36m.npy")
  models = {g: smpl.load_model(manual_dir / f"smpl/SMPL_{n}.npz") for g, n in (("m", "MALE"), ("f", "FEMALE"))}
  order = [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]
  for record in opened("regressor_gt", "test"):
    sequence, actor = number(record)
    content = truth[sequence, actor]["content"]
    for frame in (0, 5):
      parameters = content["poses"][actor][frame], content["betas"][actor][:10], content["trans"][actor][frame]
      world = (regressor @ test_smpl.skin(models[content["genders"][actor]], *parameters))[order]
      pose = content["cam_poses"][frame]
      assert_close(record["poses_camera_m"][frame], world @ pose[:3, :3].T + pose[:3, 3])
    assert record["joints_source"] == "smpl_h36m_regressor"
    projected = camera.project_linear(record["poses_camera_m"], record["intrinsics"])
    np.testing.assert_allclose(record["keypoints_px"], projected, rtol=1e-5)


def test_the_14_joints_of_readme_are_those_of_the_mesh_papers():
  mesh = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]  # SPIN's and VIBE's H36M_TO_J14, in the regressor's order
  assert str(MESH_14) in (ROOT / "posynda_jax/datasets/threedpw/README.md").read_text()
  own = np.arange(17.0)[:, None]
  np.testing.assert_array_equal(skeleton.to_h36m(own, "spin17")[MESH_14], own[mesh])
  assert [skeleton.JOINTS[j].split("_")[0] for j in MESH_14[:6]] == ["right"] * 3 + ["left"] * 3


def test_a_missing_smpl_file_is_named(tmp_path, truth, manual_dir):
  folder = pathlib.Path(shutil.copytree(manual_dir, tmp_path / "manual"))
  for name in ("SMPL_FEMALE.npz", "J_regressor_h36m.npy"):
    (folder / "smpl" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist"):
      load.load("threedpw/regressor", "test", data_dir=tmp_path, manual_dir=folder)
