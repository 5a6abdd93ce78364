"""Human3.6M from files in the official formats: read, converted, inspected, trained on and scored."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from data_prep import geometry_checks, human36m
from posynda_jax.data import safe_pickle
from posynda_jax.datasets import load, record
from posynda_jax.datasets.human36m import dummy_data, files, views
from posynda_jax.geometry import camera, camera_tables, skeleton
from tests import LIGHT

ROOT = pathlib.Path(__file__).parents[2]
SOME = ("S1", "S5")
COCO = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
CPN, SH = "cpn_ft_h36m_dbb", "sh_ft_h36m"


@pytest.fixture(scope="module")
def truth():
  return dummy_data.make_truth()


@pytest.fixture(scope="module")
def manual_dir(tmp_path_factory, truth):
  """VideoPose3D's folder; the detections are longer than the 3D, CPN has scores, and the 3D holds the take that is dropped."""
  folder = tmp_path_factory.mktemp("manual")
  garbage = np.full((4, 17, 3), np.nan, np.float32)
  dummy_data.write_3d(folder, dict(truth, S11=dict(truth["S11"], Directions=garbage)))
  dummy_data.write_2d(folder, truth, "gt")
  dummy_data.write_2d(folder, truth, CPN, noise_px=4, longer=3, scores=True)
  dummy_data.write_2d(folder, truth, SH, layout="stacked hourglass", noise_px=4, longer=2)
  return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def opened(manual_dir, data_dir):
  """A function (config, split) -> records."""
  return lambda config, split: load.load(f"human36m/{config}", split, data_dir=data_dir, manual_dir=manual_dir)


def in_camera(positions: np.ndarray, subject: str, camera_id: str) -> np.ndarray:
  """World to camera by the rotation matrix of the quaternion, in float64."""
  (w, x, y, z), t = camera_tables.H36M_EXTRINSICS[subject][camera_id]
  to_world = np.array([
      [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
      [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
      [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ])
  return (positions - np.array(t)) @ to_world


def test_records_are_the_measured_motion_in_each_camera(opened, truth):
  records = opened("gt", "S1+S11")
  assert [r["sequence"] for r in records[:5]] == [
      f"S1/Directions/{c}" for c in ("54138969", "55011271", "58860488", "60457274")] + ["S1/Directions 1/54138969"]
  assert len(records) == 4 * (30 + 29) and not any(r["sequence"].startswith("S11/Directions/") for r in records)
  for r in records[::7]:
    subject, take, camera_id = r["sequence"].split("/")
    assert set(r) == set(record.view_features())
    assert (r["subject"], r["camera"], r["fps"]) == (subject, camera_id, 50)
    assert r["action"] == take.split(" ")[0] and r["action"] in files.ACTIONS
    size, lens = camera_tables.H36M_INTRINSICS[camera_id]
    np.testing.assert_array_equal(r["resolution"], size)
    np.testing.assert_array_equal(r["intrinsics"], np.array(lens, np.float32))
    np.testing.assert_allclose(r["poses_camera_m"], in_camera(truth[subject][take], subject, camera_id), atol=2e-6)
    assert r["valid"].all() and (r["confidence"] == 1).all() and r["valid"].shape == r["poses_camera_m"].shape[:1]


def test_gt_2d_reprojects_and_is_the_file_to_the_bit(opened, manual_dir):
  positions_2d = safe_pickle.load_npz(manual_dir / "data_2d_h36m_gt.npz")["positions_2d"]
  for r in opened("gt", "S9")[::11]:
    subject, take, camera_id = r["sequence"].split("/")
    np.testing.assert_array_equal(r["keypoints_px"], positions_2d[subject][take][files.CAMERAS.index(camera_id)])
    np.testing.assert_allclose(camera.project(r["poses_camera_m"], r["intrinsics"]), r["keypoints_px"], atol=1e-3)
    assert np.abs(camera.project_linear(r["poses_camera_m"], r["intrinsics"]) - r["keypoints_px"]).max() > 0.1


def test_without_a_gt_file_the_records_are_the_same(opened, manual_dir, tmp_path):
  (tmp_path / "manual").mkdir()
  shutil.copy(manual_dir / files.FILE_3D, tmp_path / "manual")
  projected = load.load("human36m/gt", "S5", data_dir=tmp_path, manual_dir=tmp_path / "manual")
  for a, b in zip(projected, opened("gt", "S5"), strict=True):
    np.testing.assert_allclose(a.pop("keypoints_px"), b.pop("keypoints_px"), atol=1e-3)
    for name in a | b:
      np.testing.assert_array_equal(a[name], b[name])


def test_detections_are_cut_to_the_3d_and_their_scores_kept(opened, manual_dir):
  positions_2d = safe_pickle.load_npz(manual_dir / f"data_2d_h36m_{CPN}.npz")["positions_2d"]
  assert "S2" in positions_2d
  for a, b in zip(opened(CPN, "S6")[::9], opened("gt", "S6")[::9], strict=True):
    subject, take, camera_id = a["sequence"].split("/")
    view = positions_2d[subject][take][files.CAMERAS.index(camera_id)]
    assert len(view) == len(a["keypoints_px"]) + 3 == len(b["keypoints_px"]) + 3
    np.testing.assert_array_equal(a["keypoints_px"], view[:-3, :, :2])
    np.testing.assert_array_equal(a["confidence"], view[:-3, :, 2])
    np.testing.assert_array_equal(a["poses_camera_m"], b["poses_camera_m"])


def test_stacked_hourglass_is_put_in_order_and_its_missing_neck_is_not_believed(opened, truth, manual_dir, tmp_path):
  believed = [j for j in range(17) if j != 9]
  for a, b in zip(opened(SH, "S7")[::9], opened("gt", "S7")[::9], strict=True):
    assert np.abs(a["keypoints_px"] - b["keypoints_px"])[:, believed].max() < 30  # noise; another joint is farther
    np.testing.assert_allclose(a["keypoints_px"][:, 9], (a["keypoints_px"][:, 8] + a["keypoints_px"][:, 10]) / 2, rtol=1e-6)
    assert (a["confidence"][:, 9] == 0).all() and (a["confidence"][:, believed] == 1).all()
  # The two 16-joint files of that name hold the same points in two orders, and both come out alike.
  for layout in ("stacked hourglass", "h36m without neck"):
    dummy_data.write_2d(tmp_path, {"S1": truth["S1"]}, layout, layout=layout)
    positions_2d, read = files.read_2d(tmp_path / f"data_2d_h36m_{layout}.npz")
    assert read == layout
    keypoints, _ = files.to_h36m(positions_2d["S1"]["Eating 1"][2], layout)
    expected = dummy_data.project_as_videopose3d(truth["S1"]["Eating 1"], "S1", 2)
    np.testing.assert_array_equal(keypoints[:, believed], expected[:, believed])


def test_splits_are_subjects_their_sums_and_the_standard_protocol(opened):
  sequences = lambda split: [r["sequence"] for r in opened("gt", split)]
  assert sequences("train") == sum((sequences(s) for s in ("S1", "S5", "S6", "S7", "S8")), [])
  assert sequences("test") == sequences("S9+S11") and len(sequences("test")) == 4 * 59
  assert len(sequences("S5+S6+S7+S8")) == 480 and len(sequences("S1[:25%]")) == 30
  with pytest.raises(ValueError, match="split 'S2' .* choose among train, test, S1, S5, S6"):
    sequences("S2")


def edit(folder: pathlib.Path, name: str, key: str, change) -> pathlib.Path:
  """Applies `change` to what an npz file holds under `key`."""
  arrays = safe_pickle.load_npz(folder / name)
  change(arrays[key])
  np.savez_compressed(folder / name, **arrays)
  return folder


@pytest.fixture
def copied(manual_dir, tmp_path):
  """A folder of its own to plant faults in."""
  return pathlib.Path(shutil.copytree(manual_dir, tmp_path / "manual"))


def findings(folder, level="fault"):
  return [str(finding) for finding in human36m.inspect(folder) if finding.level == level]


FLIP = np.arange(17)
FLIP[geometry_checks.FLIPPED[0]] = geometry_checks.FLIPPED[1]
TO_DHP = np.argsort(skeleton.ORDERS["dhp17"])


def reorder(positions, order):
  for takes in positions.values():
    for views_of in takes.values():
      for view in views_of if isinstance(views_of, list) else [views_of]:
        view[:] = view[:, order]


def reorder_32(positions, order):
  kept = np.array(skeleton.ORDERS["h36m32"])
  for takes in positions.values():
    for poses in takes.values():
      poses[:, kept] = poses[:, kept[order]]


def scale(positions, factor, views_too=False):
  for takes in positions.values():
    for take in takes:
      takes[take] = [view * np.float32(factor) for view in takes[take]] if views_too else takes[take] * np.float32(factor)


def cut(view_list, number):
  view_list[number] = view_list[number][:2]


PLANTED_3D = {
    "in mm": (lambda p: scale(p, 1000), "looks like millimetres -> multiply by 0.001"),
    "sides exchanged": (lambda p: reorder_32(p, FLIP), "left and right are exchanged"),
    "legs exchanged": (lambda p: reorder_32(p, list(skeleton.ORDERS["spin17"])), "exchanged in the legs alone"),
    "order of 3DHP": (lambda p: reorder_32(p, TO_DHP), "fits the joint order dhp17"),
    "upside down": (lambda p: scale(p, [1, -1, -1]), "the head is below the pelvis in 100%"),
    "one take in mm": (lambda p: p["S6"].update(Posing=1000 * p["S6"]["Posing"]), "S6/Posing: joints lie .* millimetres"),
    "no S9": (lambda p: p.pop("S9"), "S9: the subject is missing"),
    "a take less": (lambda p: p["S8"].pop("Sitting 1"), "S8: the action Sitting has 1 takes, expected 2"),
    "another name": (lambda p: p["S8"].update({"WalkingDog 1": p["S8"].pop("WalkDog 1")}), "WalkingDog is unknown -> rename"),
    "nan": (lambda p: p["S5"]["Eating 1"].__setitem__((2, 3), np.nan), "S5/Eating 1: has non-finite values, first in frame 2"),
    "17 joints": (lambda p: p["S5"].update({"Eating 1": np.zeros((9, 17, 3))}), r"S5/Eating 1: has shape \(9, 17, 3\), expected"),
}
PLANTED_2D = {
    "no take": ("gt", lambda p: p["S9"].pop("Photo 1"), "S9/Photo 1: the take is missing in the 2D"),
    "three cameras": ("gt", lambda p: p["S9"]["Photo 1"].pop(), "S9/Photo 1: the 2D has 3 cameras, expected 54138969"),
    "shorter": (CPN, lambda p: cut(p["S9"]["Photo 1"], 2), "S9/Photo 1/58860488: the 2D has 2 frames and the 3D"),
    "sides exchanged": (CPN, lambda p: reorder(p, FLIP), "left and right are exchanged between 2D and 3D"),
    "order of 3DHP": ("gt", lambda p: reorder(p, TO_DHP), "the 2D has the joint order dhp17"),
    "half size": (CPN, lambda p: scale(p, 0.5, True), r"an image 0\.(5|49)\d* times as wide and 0\.(5|49)"),
    "cameras exchanged": (CPN, lambda p: p["S1"]["Photo 1"].reverse(), "belongs to camera 60457274: the order is 54138969"),
    "linear": ("gt", lambda p: p["S1"].update({"Eating 1": linear("S1", "Eating 1")}), "S1/Eating 1.*no lens distortion"),
}


def linear(subject, take):
  poses, _ = views.see(dummy_data.make_truth()[subject][take], subject)
  return [np.asarray(camera.project_linear(poses[i], views.INTRINSICS[i])) for i in range(4)]


def test_a_clean_download_has_no_fault(manual_dir):
  assert findings(manual_dir) == findings(manual_dir, "warning") == []
  notes = findings(manual_dir, "note")
  assert any("209 takes" in note for note in notes) and any("836 views have up to 3 frames more" in note for note in notes)


def keep(folder, *names):
  """Removes all 2D but the named."""
  for source in folder.glob("data_2d*"):
    if source.name not in [f"data_2d_h36m_{name}.npz" for name in names]:
      source.unlink()


@pytest.mark.parametrize("name", PLANTED_3D)
def test_faults_planted_in_the_3d_are_found(copied, name):
  change, message = PLANTED_3D[name]
  keep(copied)
  edit(copied, files.FILE_3D, "positions_3d", change)
  found = findings(copied)
  assert any(re.search(message, fault) for fault in found), found
  assert len(found) <= human36m.MAX_LISTED + 1


@pytest.mark.parametrize("name", PLANTED_2D)
def test_faults_planted_in_the_2d_are_found(copied, name):
  kind, change, message = PLANTED_2D[name]
  keep(copied, kind)
  edit(copied, f"data_2d_h36m_{kind}.npz", "positions_2d", change)
  found = findings(copied)
  assert any(re.search(message, fault) for fault in found), found
  assert len(found) <= human36m.MAX_LISTED + 1


def test_a_few_views_askew_are_known_and_many_are_a_fault(copied):
  offset = 60 * np.sin(np.arange(17, dtype=np.float32)[:, None] * [1, 2, 0])  # px, none on the scores
  askew = lambda views_of: [(view + offset).astype(np.float32) for view in views_of]
  keep(copied, CPN)
  edit(copied, f"data_2d_h36m_{CPN}.npz", "positions_2d", lambda p: p["S9"].update({"Waiting": askew(p["S9"]["Waiting"])}))
  assert findings(copied) == [] and len(findings(copied, "warning")) == 4
  assert "S9/Waiting/54138969: 3D misses the 2D" in findings(copied, "warning")[0]
  edit(copied, f"data_2d_h36m_{CPN}.npz", "positions_2d", lambda p: p["S6"].update({t: askew(x) for t, x in p["S6"].items()}))
  assert "do not belong together" in findings(copied)[0]


@pytest.mark.parametrize("name, key, change, message", [
    (files.FILE_3D, "positions_3d", lambda p: p.pop("S9"), r"data_3d_h36m\.npz, S9: the subject is missing; fetch"),
    (files.FILE_3D, "positions_3d", lambda p: [p[s].pop("Eating 1") for s in SOME], r"S1: the action Eating .*\(2 faults"),
    ("data_2d_h36m_gt.npz", "positions_2d", lambda p: cut(p["S9"]["Photo 1"], 0), "S9/Photo 1/54138969: the 2D has 2 frames"),
    ("data_2d_h36m_gt.npz", "metadata", lambda m: m.update(keypoints_symmetry=COCO), r"left joints \[1, 3, .* COCO joints"),
])
def test_a_build_refuses_what_is_not_whole(copied, tmp_path, name, key, change, message):
  edit(copied, name, key, change)
  with pytest.raises(ValueError, match=message) as error:
    load.load("human36m/gt", "S1", data_dir=tmp_path / "data", manual_dir=copied)
  assert "\n" not in str(error.value)
  assert findings(copied)


def test_missing_truncated_and_foreign_files_are_named(copied, tmp_path):
  build = lambda config: load.load(f"human36m/{config}", "S1", data_dir=tmp_path / "data", manual_dir=copied)
  with pytest.raises(FileNotFoundError, match=r"data_2d_h36m_detectron_ft_h36m\.npz does not exist. Put VideoPose3D's"):
    build("detectron_ft_h36m")
  for name in (files.FILE_3D, "data_2d_h36m_gt.npz"):
    whole = (copied / name).read_bytes()
    (copied / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{name} is not a whole npz file .* fetch it again"):
      build("gt")
    assert any(f"{name} is not a whole npz file" in fault for fault in findings(copied))
    np.savez(copied / name, reconstruction=np.zeros(3))
    with pytest.raises(ValueError, match=f"{name} holds reconstruction, expected the dictionary positions_"):
      build("gt")
    (copied / name).write_bytes(whole)
  shutil.rmtree(copied)
  copied.mkdir()
  assert "holds none of Human3.6M's 3D positions" in findings(copied)[0]


class Payload:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name, key", [(files.FILE_3D, "positions_3d"), ("data_2d_h36m_gt.npz", "positions_2d")])
def test_a_program_in_a_file_is_refused_by_name_and_not_run(copied, tmp_path, name, key):
  planted = tmp_path / "planted"
  arrays = safe_pickle.load_npz(copied / name)
  arrays[key]["S1"]["Eating"] = Payload(planted)
  np.savez(copied / name, **arrays)
  with pytest.raises(ValueError, match=rf"{name}: {key} names (posix|nt)\.mkdir"):
    load.load("human36m/gt", "S1", data_dir=tmp_path / "data", manual_dir=copied)
  assert any("mkdir, which is not plain data" in fault for fault in findings(copied))
  assert not planted.exists()


@pytest.fixture(scope="module")
def archive(tmp_path_factory, truth):
  """The official download: S11 and S9 as folders, the others as they are served."""
  folder = tmp_path_factory.mktemp("official")
  dummy_data.write_cdf(folder, truth)
  for subject in set(files.SUBJECTS) - {"S9", "S11"}:
    with tarfile.open(folder / f"Poses_D3_Positions_{subject}.tgz", "w:gz") as tar:
      tar.add(folder / subject, subject)
    shutil.rmtree(folder / subject)
  return folder


def run(module: str, *flags: str) -> subprocess.CompletedProcess:
  environment = os.environ | {"XLA_FLAGS": LIGHT, "JAX_PLATFORMS": "cpu"}
  return subprocess.run([sys.executable, "-m", module, *flags], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_official_archives_become_what_is_read_trained_on_and_scored(archive, truth, tmp_path):
  done = run("data_prep.human36m", f"--path={archive}", f"--output={tmp_path}/manual")
  assert done.returncode == 0, done.stderr
  frames = sum(len(poses) for s in ("S9", "S11") for poses in truth[s].values())
  assert re.search(rf"test +59 +{frames} +{4 * frames:,} +543344\n", done.stdout) and "ready" in done.stdout
  positions = np.load(tmp_path / "manual" / files.FILE_3D, allow_pickle=True)["positions_3d"].item()  # as VideoPose3D reads it
  assert {s: sorted(takes) for s, takes in positions.items()} == {s: sorted(takes) for s, takes in truth.items()}
  for subject, takes in truth.items():
    for take, poses in takes.items():
      assert positions[subject][take].dtype == np.float32
      np.testing.assert_allclose(positions[subject][take], dummy_data.with_32_joints(poses), atol=1e-6)
  for r in load.load("human36m/gt", "S9", data_dir=tmp_path / "data", manual_dir=tmp_path / "manual")[::13]:
    subject, take, camera_id = r["sequence"].split("/")
    np.testing.assert_allclose(r["poses_camera_m"], in_camera(truth[subject][take], subject, camera_id), atol=3e-6)
    expected = dummy_data.project_as_videopose3d(truth[subject][take], subject, files.CAMERAS.index(camera_id))
    np.testing.assert_allclose(r["keypoints_px"], expected, atol=2e-3)
  tiny = ("--num_frames=3", "--width=16", "--depth=1", "--heads=1", "--steps=2", "--batch=8", "--warmup_steps=1", "--drop_path=0")
  done = run("experiments.pretrain", "--source=human36m/gt", "--split=S1", "--eval_split=S9[:10%]", f"--workdir={tmp_path}/base",
             f"--data_dir={tmp_path}/data", *tiny)
  assert done.returncode == 0, done.stderr[-3000:]
  metrics = json.loads((tmp_path / "base" / "metrics.json").read_text())
  scored = load.load("human36m/gt", "S9[:10%]", data_dir=tmp_path / "data")
  assert metrics["base"]["frames"] == sum(len(r["valid"]) for r in scored)
  assert 100 < metrics["base"]["mpjpe_mm"] < 2000 and metrics["protocol"]["dataset"] == "human36m/gt"


def test_a_finished_conversion_is_left_alone(archive, tmp_path):
  official = pathlib.Path(shutil.copytree(archive, tmp_path / "official"))
  assert findings(official) == [] and "209 takes" in findings(official, "note")[0]
  assert human36m.convert(official, tmp_path / "manual")
  before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "manual").iterdir()}
  assert not human36m.convert(official, tmp_path / "manual")
  assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "manual").iterdir()}
  assert findings(tmp_path / "manual") == []
  with pytest.raises(ValueError, match="ready as manual_dir"):
    human36m.convert(tmp_path / "manual", tmp_path / "again")
  target = official / "S9" / "MyPoseFeatures" / "D3_Positions"
  (target / "Walking.cdf").write_bytes((target / "Walking 1.cdf").read_bytes())
  with pytest.raises(ValueError, match="was made from other files: remove it"):
    human36m.convert(official, tmp_path / "manual")


def test_faults_of_the_official_archives_are_found(archive, tmp_path):
  official = pathlib.Path(shutil.copytree(archive, tmp_path / "official"))
  target = official / "S9" / "MyPoseFeatures" / "D3_Positions"
  takes = sorted(target.glob("*.cdf"))
  takes[0].write_bytes(takes[0].read_bytes()[:700])
  takes[1].unlink()
  tgz = official / "Poses_D3_Positions_S1.tgz"
  tgz.write_bytes(tgz.read_bytes()[:-2000])
  (official / "Poses_D3_Positions_S5.tgz").unlink()
  found = "\n".join(findings(official))
  assert f"{takes[0].name}: " in found and "is not a whole D3_Positions file" in found
  assert "Poses_D3_Positions_S1.tgz is not a whole archive" in found
  assert "S5: the subject is missing" in found and "S9: the action Directions has 0 takes, expected 2" in found
  with pytest.raises(ValueError, match="not a whole"):
    human36m.convert(official, tmp_path / "manual")
  assert not (tmp_path / "manual").exists()


@pytest.mark.parametrize("member", ["../S1/MyPoseFeatures/D3_Positions/Eating.cdf", "/S1/MyPoseFeatures/a.cdf", "link"])
def test_archive_members_that_lead_outside_are_refused(tmp_path, member):
  with tarfile.open(tmp_path / "Poses_D3_Positions_S1.tgz", "w:gz") as tar:
    info = tarfile.TarInfo(member)
    info.type, info.linkname = (tarfile.SYMTYPE, "/etc/passwd") if member == "link" else (tarfile.REGTYPE, "")
    tar.addfile(info)
  with pytest.raises(ValueError, match="leads outside the archive"):
    human36m.convert(tmp_path, tmp_path / "manual")
