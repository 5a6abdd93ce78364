"""Human3.6M records from files in the official formats, and files that a build refuses."""

import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_prep import human36m
from posynda_jax.data import safe_pickle
from posynda_jax.datasets import load, record
from posynda_jax.datasets.human36m import archives, files, views
from posynda_jax.geometry import camera, camera_tables
from tests.data.test_safe_pickle import Payload
from tests.datasets import dummy_human36m as dummy_data
from tests.datasets.planted import edit, listed
from tests.tolerance import assert_close

CPN, HOURGLASS, GT = dummy_data.CPN, dummy_data.HOURGLASS, "data_2d_h36m_gt.npz"
COCO = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
WITHOUT_NECK = [j for j in range(17) if j != 9]


@pytest.fixture(scope="module")
def truth():
  return dummy_data.make_truth()


@pytest.fixture(scope="module")
def manual_dir(tmp_path_factory, truth):
  return dummy_data.write_manual_dir(tmp_path_factory.mktemp("manual"), truth)


@pytest.fixture(scope="module")
def opened(manual_dir, tmp_path_factory):
  """A function (config, split) -> records."""
  data_dir = tmp_path_factory.mktemp("data")
  return lambda config, split: load.load(f"human36m/{config}", split, data_dir=data_dir, manual_dir=manual_dir)


def in_camera(truth, sequence: str) -> np.ndarray:
  subject, take, camera_id = sequence.split("/")
  q, t = camera_tables.H36M_EXTRINSICS[subject][camera_id]
  return (truth[subject][take] - np.array(t)) @ Rotation.from_quat(q, scalar_first=True).as_matrix()


def view_2d(manual_dir, name: str, sequence: str) -> np.ndarray:
  subject, take, camera_id = sequence.split("/")
  positions_2d = safe_pickle.load_npz(manual_dir / f"data_2d_h36m_{name}.npz")["positions_2d"]
  return positions_2d[subject][take][files.CAMERAS.index(camera_id)]


def test_records_are_the_measured_motion_in_each_camera(opened, truth):
  records = opened("gt", "S1+S11")
  names = [f"S1/{take}/{c}" for take in ("Directions", "Directions 1") for c in files.CAMERAS]
  assert [r["sequence"] for r in records[:8]] == names
  assert len(records) == 4 * (30 + 29) and not any(r["sequence"].startswith("S11/Directions/") for r in records)
  for r in records[::7]:
    subject, take, camera_id = r["sequence"].split("/")
    assert set(r) == set(record.view_features())
    assert (r["subject"], r["camera"], r["fps"]) == (subject, camera_id, 50)
    assert r["action"] == take.split(" ")[0] and r["action"] in files.ACTIONS
    size, lens = camera_tables.H36M_INTRINSICS[camera_id]
    np.testing.assert_array_equal(r["resolution"], size)
    np.testing.assert_array_equal(r["intrinsics"], np.array(lens, np.float32))
    assert_close(r["poses_camera_m"], in_camera(truth, r["sequence"]))
    assert r["valid"].all() and (r["confidence"] == 1).all() and r["valid"].shape == r["poses_camera_m"].shape[:1]


def test_gt_2d_is_that_of_the_file_and_the_projection_of_the_3d(opened, manual_dir, tmp_path):
  (tmp_path / "manual").mkdir()
  shutil.copy(manual_dir / files.FILE_3D, tmp_path / "manual")
  projected = load.load("human36m/gt", "S9", data_dir=tmp_path, manual_dir=tmp_path / "manual")
  for ours, r in zip(projected[::11], opened("gt", "S9")[::11], strict=True):
    np.testing.assert_array_equal(r["keypoints_px"], view_2d(manual_dir, "gt", r["sequence"]))
    assert np.abs(camera.project_linear(r["poses_camera_m"], r["intrinsics"]) - r["keypoints_px"]).max() > 0.1
    np.testing.assert_allclose(ours.pop("keypoints_px"), r.pop("keypoints_px"), atol=1e-3)
    np.testing.assert_equal(ours, r)


def test_detections_are_cut_to_the_3d_and_their_scores_kept(opened, manual_dir):
  assert "S2" in safe_pickle.load_npz(manual_dir / f"data_2d_h36m_{CPN}.npz")["positions_2d"]
  for a, b in zip(opened(CPN, "S6")[::9], opened("gt", "S6")[::9], strict=True):
    view = view_2d(manual_dir, CPN, a["sequence"])
    assert len(view) == len(a["keypoints_px"]) + 3 == len(b["keypoints_px"]) + 3
    np.testing.assert_array_equal(a["keypoints_px"], view[:-3, :, :2])
    np.testing.assert_array_equal(a["confidence"], view[:-3, :, 2])
    np.testing.assert_array_equal(a["poses_camera_m"], b["poses_camera_m"])


@pytest.mark.parametrize("layout", ["stacked hourglass", "h36m without neck"])
def test_both_16_joint_files_of_one_name_give_the_same_joints_and_a_neck_without_confidence(truth, tmp_path, layout):
  dummy_data.write_2d(tmp_path, {"S1": truth["S1"]}, HOURGLASS, layout=layout)
  positions_2d, read = files.read_2d(tmp_path / f"data_2d_h36m_{HOURGLASS}.npz")
  assert read == layout
  keypoints, confidence = files.to_h36m(positions_2d["S1"]["Eating 1"][2], layout)
  expected = views.render(truth["S1"]["Eating 1"], "S1")[1][2]
  np.testing.assert_array_equal(keypoints[:, WITHOUT_NECK], expected[:, WITHOUT_NECK])
  assert_close(keypoints[:, 9], (keypoints[:, 8] + keypoints[:, 10]) / 2)
  assert (confidence[:, 9] == 0).all() and (confidence[:, WITHOUT_NECK] == 1).all()


def test_splits_are_subjects_their_sums_and_the_standard_protocol(opened):
  def sequences(split):
    return [r["sequence"] for r in opened("gt", split)]

  assert sequences("train") == sum((sequences(s) for s in ("S1", "S5", "S6", "S7", "S8")), [])
  assert sequences("test") == sequences("S9+S11") and len(sequences("test")) == 4 * 59
  assert len(sequences("S5+S6+S7+S8")) == 480 and len(sequences("S1[:25%]")) == 30
  with pytest.raises(ValueError, match="split 'S2' .* choose among train, test, S1, S5, S6"):
    sequences("S2")


@pytest.fixture
def copied(manual_dir, tmp_path):
  """A copy to plant faults in."""
  return shutil.copytree(manual_dir, tmp_path / "manual")


def build(folder, config="gt"):
  return load.load(f"human36m/{config}", "S1", data_dir=folder.parent / "data", manual_dir=folder)


@pytest.mark.parametrize("name, key, change, message", [
    (files.FILE_3D, "positions_3d", lambda p: [p[s].pop("Eating 1") for s in ("S1", "S5")], r"S1: .*Eating.*\(2 fault"),
    (GT, "metadata", lambda m: m.update(keypoints_symmetry=COCO), r"left joints \[1, 3, .* COCO joints"),
    (GT, "positions_2d", lambda p: p["S1"].update(Eating=Payload("planted")), rf"{GT}: positions_2d names \w+\.mkdir"),
])  # fmt: skip
def test_a_build_refuses_incomplete_files_and_programs(copied, name, key, change, message):
  edit(copied / name, key, change)
  with pytest.raises(ValueError, match=message) as error:
    build(copied)
  assert "\n" not in str(error.value)


def test_missing_truncated_and_foreign_files_are_named(copied):
  with pytest.raises(FileNotFoundError, match=r"data_2d_h36m_detectron_ft_h36m\.npz does not exist. Put VideoPose3D's"):
    build(copied, "detectron_ft_h36m")
  for name in (GT, files.FILE_3D):
    content = (copied / name).read_bytes()
    np.savez(copied / name, reconstruction=np.zeros(3))
    with pytest.raises(ValueError, match=f"{name} holds reconstruction, expected the dictionary positions_"):
      build(copied)
    (copied / name).write_bytes(content[: len(content) // 2])
    assert any(f"{name} is not a whole npz file" in fault for fault in listed(human36m.inspect(copied)))


def test_a_cdf_file_that_keeps_its_reader_busy_is_a_fault(tmp_path, monkeypatch):
  path = tmp_path / "Walking.cdf"
  path.write_bytes(b"x")

  class Busy:
    def __init__(self, path):
      while True:
        pass

  monkeypatch.setattr("cdflib.CDF", Busy)
  monkeypatch.setattr(archives, "CDF_SECONDS", 0.1)
  with pytest.raises(ValueError, match="Walking.cdf.*took more than 0.1 s"):
    list(archives.read_takes(path, "S1"))
