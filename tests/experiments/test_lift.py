"""Own keypoints through the scripts: adaptation without a source, lifting, and errors in one line."""

import json
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest

from posynda_jax.geometry import camera, gravity
from tests.interop import detector_files
from tests.interop.test_bvh_writer import read_bvh
from tests.scripts import error_of, run_well


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
  """(OpenPose folder of 40 frames with a second, late person and an empty frame, detections [T names 3] of the first).
  """
  seen, other = detector_files.detect(40), detector_files.detect(40, 5, (1.2, 0, 5.0))
  frames = [[] if t == 20 else [seen[t], other[t]] if t > 30 else [seen[t]] for t in range(40)]
  return detector_files.write_openpose(tmp_path_factory.mktemp("walk") / "openpose", frames), seen


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, smoke_base, walk):
  """(Folder of an adaptation to the keypoints that is finished, and its output)."""
  folder = tmp_path_factory.mktemp("runs") / "own"
  out = run_well(
      "adapt", "--recipe=free", "--noguard", f"--target=keypoints:{walk[0]}", smoke_base, f"--workdir={folder}",
      "--clips=8", "--updates=6", "--rank=2", "--adapt_rate=1e-3", "--resolution=1920x1080", "--fps=25",
      "--intrinsics=" + ",".join(f"{value:g}" for value in detector_files.INTRINSICS))
  return folder, out


def test_adapting_to_own_keypoints_reports_reprojection_instead_of_errors(adapted):
  folder, out = adapted
  results, config = (json.loads((folder / name).read_text()) for name in ("metrics.json", "config.json"))
  protocol = results.pop("protocol")
  assert set(results) == {"source_only", "adapted"}
  assert all(row["frames"] == 39 and "mpjpe_mm" not in row for row in results.values())
  before, after = (row["reprojection_px"] for row in results.values())
  assert np.isfinite([before, after]).all() and before != after
  assert "no error in mm" in protocol["measured"] and protocol["keypoints_2d"] == "openpose, joint rule body25"
  assert protocol["intrinsics"] == protocol["fps"] == "given" and ":all frames (2D and" in protocol["adapted_on"]
  for text in ("Source-free", "no ground truth", "openpose (recognised), layout body25", "1 of 40 interpolated"):
    assert text in out
  assert config["own_keypoints"]["resolution"] == [1920, 1080] and len(config["own_keypoints"]["keypoints_crc32"]) == 8
  assert [lesson["name"] for lesson in config["recipe"]["lessons"]] == ["NovelViews"] and config["source"] is None
  assert (folder / "figures" / "comparison.png").stat().st_size > 10_000


def test_lift_writes_poses_metadata_picture_and_bvh(adapted, walk, tmp_path):
  options = (f"--run={adapted[0]}", f"--keypoints={walk[0]}", "--resolution=1920x1080", "--hypotheses=3")
  out = run_well("lift", *options, "--select=joint", f"--output={tmp_path}/walk.npz", f"--bvh={tmp_path}/walk.bvh",
                 f"--trc={tmp_path}/walk.trc", f"--angles={tmp_path}/walk.csv", "--up=0,-1,0", "--height=1.6")
  assert "  warning: intrinsics not given: focal length guessed as 1920 px" in out
  assert "Reprojection error: mean" in out and "Height: 1.60 m, as given" in out
  found = np.load(tmp_path / "walk.npz")  # without pickles
  assert found["frame"].tolist() == list(range(40)) and np.flatnonzero(~found["detected"]).tolist() == [20]
  assert found["hypotheses_root_m"].shape == (3, 40, 17, 3) and found["pose_root_m"].dtype == np.float32
  np.testing.assert_array_equal(found["pose_root_m"][:, 0], 0)
  root, there = found["pose_camera_m"][:, 0], found["detected"]
  np.testing.assert_allclose(found["pose_camera_m"] - root[:, None], found["pose_root_m"], atol=1e-5)
  points, given = detector_files.expected(walk[1], "body25")
  np.testing.assert_allclose(found["keypoints_px"][there], points[there], atol=2e-3)
  np.testing.assert_allclose(found["confidence"][there], given[there], atol=1e-3)
  projected = camera.project(found["pose_camera_m"].reshape(-1, 3), found["intrinsics"]).reshape(40, 17, 2)
  distance = np.linalg.norm(projected - found["keypoints_px"], axis=-1)[there]
  mean = np.average(distance, -1, found["confidence"][there])
  np.testing.assert_allclose(found["reprojection_px"][there], mean, rtol=1e-3, atol=1e-2)
  assert np.isnan(found["reprojection_px"][20])
  metadata = json.loads(str(found["metadata"]))
  assert metadata["format"] == "openpose" and metadata["intrinsics"].startswith("guessed")
  assert [metadata[name] for name in ("num_people", "hypotheses", "selection", "weights")] == [2, 3, "joint", "adapted"]
  assert ["focal length" in line or "fps" in line for line in metadata["warnings"]] == [True, True]
  picture = plt.imread(tmp_path / "walk.png")
  assert picture.shape[0] > 400 and picture[..., :3].std() > 0.02
  level = found["pose_level_m"]
  np.testing.assert_allclose(np.diff(level, axis=0), np.diff(found["pose_camera_m"] * [1, -1, -1], axis=0), atol=1e-5)
  assert abs(np.quantile(level[:, [3, 6], 1].min(-1), 0.05)) < 1e-5  # the floor
  positions, motion = read_bvh(tmp_path / "walk.bvh", 100.0)
  np.testing.assert_allclose(positions[:, 0], level[:, 0], atol=1e-4)
  trc = (tmp_path / "walk.trc").read_text().splitlines()
  assert trc[0].startswith("PathFileType\t4") and trc[2].split("\t")[2:5] == ["40", "17", "m"]
  np.testing.assert_allclose(np.array(trc[6].split("\t"), float)[2:].reshape(17, 3), level[0], atol=1e-6)
  angles = np.genfromtxt(tmp_path / "walk.csv", delimiter=",", names=True)
  assert angles["frame"].tolist() == list(range(40)) and np.isfinite(angles["left_knee_deg"]).all()
  assert motion.fps == pytest.approx(30) and not list(tmp_path.glob("*.part"))


def test_the_default_base_says_how_far_off_it_may_be_and_chooses_by_bones(walk, tmp_path):
  out = run_well("lift", f"--keypoints={walk[0]}", "--resolution=1920x1080", "--fps=25", "--sampling_steps=2",
                 "--hypotheses=3", "--select=bones", "--pitch=20", f"--output={tmp_path}/a.npz")
  found = np.load(tmp_path / "a.npz")
  metadata = json.loads(str(found["metadata"]))
  np.testing.assert_allclose([metadata["lifted_up"], metadata["up"]["vector"]], [gravity.pitched(20)] * 2, atol=1e-6)
  assert "Lifted as a level camera sees it; this one is 20 degrees off, as given" in out
  assert f"Expected error: {1000 * found['sigma_m'].mean():.0f} mm a joint" in out
  mean = found["hypotheses_root_m"].mean(0)
  lengths = [np.linalg.norm(pose[:, 3] - pose[:, 2], axis=-1) for pose in (mean, found["pose_root_m"])]
  assert lengths[1].std() < lengths[0].std() and np.abs(mean - found["pose_root_m"]).max() > 1e-3
  assert (found["sigma_m"][:, 0] == 0).all() and 0.01 < found["sigma_m"][:, 1:].mean() < 0.2
  expected = np.sqrt(2 * found["deviation_m"][..., 0] ** 2 + found["deviation_m"][..., 1] ** 2)
  np.testing.assert_allclose(found["sigma_m"], expected, rtol=1e-4)


def test_an_error_of_the_user_in_lift_is_one_line(smoke_base, walk, tmp_path):
  bare = tmp_path / "base"
  shutil.copytree(smoke_base.partition("=")[2], bare)
  (bare / "metrics.json").unlink()  # it holds the bone lengths
  for flags, message in (
      ("--resolution=wide", "write --resolution=1920x1080"),
      (f"--base={bare} --refine=body", "this base does not hold its source's bone lengths"),
      ("--up=north", "--up=north is neither auto, camera nor x,y,z"),
      ("--up=0,-1,0 --pitch=10", "--up=0,-1,0 and --pitch=10 both tell the camera's up: give one of them"),
      ("--pitch=steep", "--pitch=steep is neither auto, any, level nor degrees below the horizon, up to 60"),
      ("--smooth=40", "40 Hz cannot be filtered at 30 frames a second: choose less than 15 Hz"),
      (f"--output={tmp_path}/none/a.npz", "none/a.npz does not exist: make it first"),
      (f"--output={tmp_path}/a.txt", "does not end in .npz"),
  ):
    given = (smoke_base, f"--keypoints={walk[0]}", "--resolution=1920x1080", f"--output={tmp_path}/a.npz")
    assert message in error_of("lift", *given, *flags.split())
  assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_all_people_of_a_video_are_in_one_file_and_each_has_their_own_motion_file(adapted, walk, tmp_path):
  options = (f"--run={adapted[0]}", "--resolution=1920x1080", "--fps=25")
  seen, other = detector_files.detect(40), detector_files.detect(40, 5, (1.2, 0, 5.0))
  frames = [[seen[t], other[t]] if t > 20 else [seen[t]] for t in range(40)]
  folder = detector_files.write_openpose(tmp_path / "pair", frames)
  out = run_well("lift", *options, f"--keypoints={folder}", "--person=all", f"--output={tmp_path}/pair.npz",
                 f"--bvh={tmp_path}/pair.bvh")
  found = np.load(tmp_path / "pair.npz")
  assert found["frame"].tolist() == list(range(40)) and found["frame_1"].tolist() == list(range(21, 40))
  assert "pose_root_m_2" not in found.files and json.loads(str(found["metadata_1"]))["person"] == 1
  run_well("lift", *options, f"--keypoints={folder}", "--person=1", f"--output={tmp_path}/1.npz")
  np.testing.assert_array_equal(found["pose_camera_m_1"], np.load(tmp_path / "1.npz")["pose_camera_m"])
  assert "Person 0: Trusted: " in out and "Person 1: Trusted: " in out
  assert (tmp_path / "pair_1.bvh").stat().st_size > 1000 and (tmp_path / "pair.bvh").stat().st_size > 1000


def test_several_videos_in_one_call_give_what_each_gives_alone(adapted, tmp_path):
  options, names = (f"--run={adapted[0]}", "--resolution=1920x1080", "--fps=25"), ("long", "short")
  folders = [str(detector_files.write_openpose(tmp_path / name, [[one] for one in detector_files.detect(frames, 3)]))
             for name, frames in zip(names, (40, 15), strict=True)]
  together = tmp_path / "new" / "together"
  out = run_well("lift", *options, f"--keypoints={','.join(folders)}", f"--output={together}", f"--bvh={together}")
  assert {path.name for path in together.iterdir()} == {
      f"{name}.{end}" for name in names for end in ("npz", "png", "bvh")}
  run_well("lift", *options, f"--keypoints={folders[1]}", f"--output={tmp_path}/alone.npz")
  alone, one = np.load(tmp_path / "alone.npz"), np.load(together / "short.npz")
  assert set(alone.files) == set(one.files)
  np.testing.assert_array_equal(one["pose_camera_m"], alone["pose_camera_m"])
  assert out.count("frames in ") == 2
  error = error_of("lift", *options, f"--keypoints={folders[0]},{folders[0]}", f"--output={tmp_path}/twice")
  assert "have one name" in error and not (tmp_path / "twice").exists()
