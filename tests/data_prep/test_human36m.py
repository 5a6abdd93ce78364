"""Human3.6M's downloads: planted faults are found, and official archives become the files that a build reads."""

import re
import shutil
import tarfile

import numpy as np
import pytest

from data_prep import human36m
from posynda_jax.datasets import load
from posynda_jax.datasets.human36m import files, views
from posynda_jax.geometry import camera, skeleton
from tests.datasets import dummy
from tests.datasets import dummy_human36m as dummy_data
from tests.datasets.planted import edit, listed, run_module
from tests.tolerance import assert_close

CPN = dummy_data.CPN
FLIP = dummy.mirrored(skeleton.JOINTS)
TO_DHP = np.argsort(skeleton.ORDERS["dhp17"])


@pytest.fixture(scope="module")
def truth():
  return dummy_data.make_truth()


@pytest.fixture(scope="module")
def manual_dir(tmp_path_factory, truth):
  return dummy_data.write_manual_dir(tmp_path_factory.mktemp("manual"), truth)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, truth):
  """The official download: S11 and S9 as folders, the others as archives."""
  folder = tmp_path_factory.mktemp("official")
  dummy_data.write_cdf(folder, truth)
  for subject in set(files.SUBJECTS) - {"S9", "S11"}:
    with tarfile.open(folder / f"Poses_D3_Positions_{subject}.tgz", "w:gz") as tar:
      tar.add(folder / subject, subject)
    shutil.rmtree(folder / subject)
  return folder


@pytest.fixture
def planted(manual_dir, tmp_path):
  """A function that copies the 3D and the 2D `kind`, and applies changes to one of them."""
  folder = tmp_path / "manual"

  def plant(kind: str, *changes) -> list[human36m.Finding]:
    folder.mkdir(exist_ok=True)
    for name in (files.FILE_3D, f"data_2d_h36m_{kind}.npz"):
      if (manual_dir / name).exists() and not (folder / name).exists():
        shutil.copy(manual_dir / name, folder)
    name, key = (f"data_2d_h36m_{kind}.npz", "positions_2d") if kind else (files.FILE_3D, "positions_3d")
    for change in changes:
      edit(folder / name, key, change)
    return list(human36m.inspect(folder))

  return plant


def each(change):
  """Applies `change` to every array of 3D positions, or of a camera's 2D."""

  def apply(positions):
    for takes in positions.values():
      for take, value in takes.items():
        takes[take] = [change(view) for view in value] if isinstance(value, list) else change(value)

  return apply


def linear(subject, name):
  poses, _ = views.render(dummy_data.make_truth()[subject][name], subject)
  return [np.asarray(camera.project_linear(poses[i], views.INTRINSICS[i])) for i in range(4)]


def take(subject, name, change):
  """Replaces a take by `change` of it; None removes it."""

  def apply(positions):
    value = positions[subject].pop(name)
    if change:
      positions[subject][name] = change(value)

  return apply


def nan_in_frame_2(poses):
  return np.where(np.arange(len(poses))[:, None, None] == 2, np.nan, poses)


# The 2D file to change, or "" for the 3D; the changes; the finding of each.
PLANTED = [
    ("", [(each(lambda p: p * np.float32(1000)), "looks like millimetres -> multiply by 0.001")]),
    ("", [
        (take("S6", "Posing", lambda p: 1000 * p), "S6/Posing: joints lie .* millimetres"),
        (lambda p: p.pop("S9"), "S9: the subject is missing"),
        (take("S8", "Sitting 1", None), "S8: the action Sitting has 1 takes, expected 2"),
        (lambda p: p["S8"].update(WalkingDog=p["S8"].pop("WalkDog 1")), "WalkingDog is unknown -> r"),
        (take("S5", "Eating 1", nan_in_frame_2), "S5/Eating 1: has non-finite values, first in frame 2"),
        (take("S5", "Photo 1", lambda p: p[:, :17]), r"S5/Photo 1: has shape \(\d+, 17, 3\), expected"),
    ]),
    ("gt", [
        (take("S9", "Photo 1", None), "S9/Photo 1: the 2D has 0 cameras"),
        (take("S9", "Eating 1", lambda v: v[:3]), "S9/Eating 1: the 2D has 3 cameras, expected 5413"),
        (take("S1", "Eating 1", lambda v: linear("S1", "Eating 1")), "S1/Eating 1.*no lens distortion"),
    ]),
    ("gt", [(each(lambda v: v[:, TO_DHP]), "the 2D has the joint order dhp17")]),
    (CPN, [
        (take("S9", "Photo 1", lambda v: [*v[:2], v[2][:2], v[3]]), "1/58860488: the 2D has 2 frames"),
        (take("S1", "Photo 1", lambda v: v[::-1]), "belongs to camera 60457274: the order is"),
    ]),
    (CPN, [(each(lambda v: v[:, FLIP]), "left and right are exchanged between 2D and 3D")]),
    (CPN, [(each(lambda v: v * np.float32(0.5)), r"an image 0\.(5|49)\d* times as wide and 0\.(5|49)")]),
]


@pytest.mark.parametrize("kind, faults", PLANTED)
def test_planted_faults_are_found(planted, kind, faults):
  found = listed(planted(kind, *(change for change, _ in faults)))
  for _, message in faults:
    assert any(re.search(message, fault) for fault in found), found
  assert len(found) <= 2 * human36m.MAX_LISTED


def test_a_clean_download_has_no_fault(manual_dir):
  findings = list(human36m.inspect(manual_dir))
  assert listed(findings) == listed(findings, "warning") == []
  notes = "".join(listed(findings, "note"))
  assert "209 takes" in notes and "836 views have up to 3 frames more" in notes


def test_a_few_shifted_views_are_a_warning_and_many_are_a_fault(planted):
  offset = 60 * np.sin(np.arange(17, dtype=np.float32)[:, None] * [1, 2, 0])  # px, none on the scores

  def shift(takes, *names):
    takes.update({name: [(view + offset).astype(np.float32) for view in takes[name]] for name in names})

  findings = planted(CPN, lambda p: shift(p["S9"], "Waiting"))
  warnings = listed(findings, "warning")
  assert listed(findings) == [] and len(warnings) == 4
  assert "S9/Waiting/54138969: 3D misses the 2D" in warnings[0] and "known to be shifted" in warnings[0]
  assert "do not belong together" in listed(planted(CPN, lambda p: shift(p["S6"], *p["S6"])))[0]


def test_the_official_archives_become_the_files_of_a_build(archive, truth, tmp_path):
  done = run_module("data_prep.human36m", f"--path={archive}", f"--output={tmp_path}/manual")
  frames = sum(len(poses) for s in ("S9", "S11") for poses in truth[s].values())
  assert re.search(rf"test +59 +{frames} +{4 * frames:,} +543,344\n", done.stdout) and "ready" in done.stdout
  loaded = np.load(tmp_path / "manual" / files.FILE_3D, allow_pickle=True)  # as VideoPose3D reads it
  positions = loaded["positions_3d"].item()
  assert {s: sorted(takes) for s, takes in positions.items()} == {s: sorted(takes) for s, takes in truth.items()}
  for subject, takes in truth.items():
    for take, poses in takes.items():
      assert positions[subject][take].dtype == np.float32
      assert_close(positions[subject][take], dummy_data.with_32_joints(poses))
  for r in load.load("human36m/gt", "S9", data_dir=tmp_path / "data", manual_dir=tmp_path / "manual")[::13]:
    subject, take, camera_id = r["sequence"].split("/")
    expected = views.render(truth[subject][take], subject)[1][files.CAMERAS.index(camera_id)]
    np.testing.assert_allclose(r["keypoints_px"], expected, atol=2e-3)


def test_a_finished_conversion_is_left_unchanged(archive, tmp_path):
  official, output = shutil.copytree(archive, tmp_path / "official"), tmp_path / "manual"
  findings = list(human36m.inspect(official))
  assert listed(findings) == [] and "209 takes" in listed(findings, "note")[0]
  assert human36m.convert(official, output)
  before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
  assert not human36m.convert(official, output)
  assert before == {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
  assert listed(human36m.inspect(output)) == []
  with pytest.raises(ValueError, match="ready as manual_dir"):
    human36m.convert(output, tmp_path / "again")
  target = official / "S9" / "MyPoseFeatures" / "D3_Positions"
  shutil.copy(target / "Walking 1.cdf", target / "Walking.cdf")
  with pytest.raises(ValueError, match="was made from other files: remove it"):
    human36m.convert(official, output)


def test_faults_of_the_official_archives_are_found(archive, tmp_path):
  official = shutil.copytree(archive, tmp_path / "official")
  takes = sorted((official / "S9" / "MyPoseFeatures" / "D3_Positions").glob("*.cdf"))
  takes[0].write_bytes(takes[0].read_bytes()[:700])
  takes[1].unlink()
  tgz = official / "Poses_D3_Positions_S1.tgz"
  tgz.write_bytes(tgz.read_bytes()[:-2000])
  (official / "Poses_D3_Positions_S5.tgz").unlink()
  found = "\n".join(listed(human36m.inspect(official)))
  assert re.search(rf"{takes[0].name}: is not a whole D3_Positions file", found)
  assert "Poses_D3_Positions_S1.tgz: is not a whole archive" in found
  assert "S5: the subject is missing" in found and "S9: the action Directions has 0 takes, expected 2" in found
  with pytest.raises(ValueError, match="not a whole"):
    human36m.convert(official, tmp_path / "manual")
  assert not (tmp_path / "manual").exists()
  assert "holds none of Human3.6M's 3D positions" in listed(human36m.inspect(tmp_path))[0]


@pytest.mark.parametrize("member", ["../S1/MyPoseFeatures/D3_Positions/Eating.cdf", "/S1/MyPoseFeatures/a.cdf", "link"])
def test_archive_members_that_lead_outside_are_refused(tmp_path, member):
  with tarfile.open(tmp_path / "Poses_D3_Positions_S1.tgz", "w:gz") as tar:
    info = tarfile.TarInfo(member)
    info.type, info.linkname = (tarfile.SYMTYPE, "/etc/passwd") if member == "link" else (tarfile.REGTYPE, "")
    tar.addfile(info)
  with pytest.raises(ValueError, match="leads outside the archive"):
    human36m.convert(tmp_path, tmp_path / "manual")
