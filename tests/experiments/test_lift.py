"""Lifting own keypoints: frames in their order, places before the camera, BVH that moves alike, and the scripts end to end."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from posynda_jax import lifter
from posynda_jax.adaptation import pretrain
from posynda_jax.datasets.mocap import bvh
from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import camera, skeleton
from posynda_jax.interop import bvh_writer
from posynda_jax.runtime import checkpoint, runs
from tests import scene
from tests.experiments.test_experiments import SMOKE, error_of, run, run_well
from tests.interop import detector_files

W, H, F = 1000, 800, 900.0
LENGTHS = np.array([0.13, 0.45, 0.43, 0.13, 0.45, 0.43, 0.23, 0.25, 0.12, 0.12, 0.16, 0.28, 0.25, 0.16, 0.28, 0.25])


def flat_scene(num_frames: int, fps: float) -> tuple[dict, np.ndarray]:
  """A record of people who are flat, 4 m before a camera without distortion, and their poses [T 17 3]."""
  poses = scene.poses((num_frames,), seed=3)
  poses[..., 2] = 4
  intrinsics = np.array([F, F, W / 2, H / 2, 0, 0, 0, 0, 0], np.float32)
  record = {
      "keypoints_px": np.asarray(camera.project(poses, intrinsics)), "confidence": np.ones(poses.shape[:2], np.float32),
      "valid": np.ones(num_frames, bool), "intrinsics": intrinsics, "resolution": np.array([W, H], np.float32),
      "fps": np.float32(fps), "sequence": "flat",
  }
  return record, poses


def knows_flat(keypoints, noisy, t):
  """A denoiser that knows people are flat and 4 m away: screen units are x / 4 times 2 F / W."""
  xy = keypoints * (4 * W / (2 * F))
  return jnp.concatenate([xy - xy[..., :1, :], jnp.zeros_like(xy[..., :1])], -1)


@functools.cache
def flat_lifter():
  return lifter.make_lifter(lambda weights: knows_flat, evaluate.EvaluateConfig(num_hypotheses=2, select="frame"))


@pytest.mark.parametrize("num_frames, fps", [(1, 25.0), (23, 12.5), (2, 100.0), (23, 25.0), (50, 60.0)])
def test_lifting_keeps_frames_in_order_and_finds_their_place(num_frames, fps):
  record, poses = flat_scene(num_frames, fps)
  lifted = lifter.lift_record(flat_lifter(), (), record, 12.5, num_frames=9, batch_size=4)
  np.testing.assert_allclose(lifted.pose, skeleton.root_centre(poses), atol=1e-5)
  np.testing.assert_allclose(lifted.root, poses[:, 0], atol=1e-3)
  assert lifted.hypotheses.shape == (num_frames, 2, 17, 3)
  np.testing.assert_allclose(lifted.hypotheses, np.stack([lifted.pose] * 2, 1), atol=1e-6)
  assert lifted.reprojection_px.max() < 0.05


def test_the_reprojection_error_is_in_px_weighs_by_confidence_and_tells_bad_frames():
  record, _ = flat_scene(10, 12.5)
  record["keypoints_px"] = record["keypoints_px"].copy()
  record["confidence"][4] = 0  # interpolated
  record["valid"][4] = False
  record["keypoints_px"][7, 13] += [60, 0]  # a wrist, which a denoiser that keeps its answer cannot follow
  no_wrist = lambda weights: lambda k, n, t: knows_flat(k, n, t).at[..., 13, :].set(0.1)
  lift_clip = lifter.make_lifter(no_wrist, evaluate.EvaluateConfig())
  lift = lambda: lifter.lift_record(lift_clip, (), record, 12.5, 9, 4)
  errors = lift().reprojection_px
  assert np.isnan(errors[4]) and np.isfinite(np.delete(errors, 4)).all() and np.nanargmax(errors) == 7
  assert np.isfinite(lift().root[4]).all() and lift().root[4, 2] > 1
  record["confidence"][:, 13] = 1e-6
  record["confidence"][4] = 0
  assert np.nanmax(lift().reprojection_px) < 0.05


def test_a_video_at_another_frame_rate_than_the_bases_is_told():
  tell = lambda fps, clip_fps: lifter.rate_warning({"fps": np.float32(fps)}, clip_fps)
  assert tell(25, 50) and "this video gives 25: motion looks faster" in tell(25, 50)[0]
  assert "this video gives 70: motion looks slower" in tell(70, 50)[0]
  assert tell(50, 50) == tell(60, 15) == tell(30, 15) == tell(29.97, 15) == []


def moving_person(num_frames: int, seed: int = 0, wild: bool = True) -> np.ndarray:
  """Poses [T 17 3] (camera frame, m) of constant bone lengths in any directions, or of a person who sways."""
  if not wild:
    return (scene.motion(num_frames, seed) * [1, -1, -1] + [0, 0.95, 4]).astype(np.float32)
  rng = np.random.default_rng(seed)
  directions = rng.standard_normal((num_frames, 16, 3))
  directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
  poses = np.zeros((num_frames, 17, 3))
  poses[:, 0] = rng.uniform(-2, 2, (num_frames, 3))
  for joint, parent in enumerate(skeleton.PARENTS[1:], 1):
    poses[:, joint] = poses[:, parent] + LENGTHS[joint - 1] * directions[:, joint - 1]
  return poses


def read_bvh(path, unit: float) -> tuple[np.ndarray, bvh.Bvh]:
  """Joint positions [T 17 3] back in the camera frame, by the project's own parser and forward kinematics."""
  motion = bvh.parse_bvh(path.read_text(), path.name)
  positions, _ = bvh.forward(motion)
  return np.stack([positions[name] for name in skeleton.JOINTS], 1) / unit * [1, -1, -1], motion


@pytest.mark.parametrize("unit, scale", [("cm", 100.0), ("m", 1.0)])
def test_bvh_gives_back_every_joint_where_bones_keep_their_lengths(unit, scale, tmp_path):
  poses = moving_person(60)
  poses[0] = poses[0, 0] + bvh_rest() * [1, -1, -1]  # the rest pose itself, then its opposite: half turns everywhere
  poses[1] = poses[1, 0] - bvh_rest() * [1, -1, -1]
  stray = bvh_writer.write(tmp_path / "a.bvh", poses, 25.0, unit)
  got, motion = read_bvh(tmp_path / "a.bvh", scale)
  np.testing.assert_allclose(got, poses, atol=1e-5)
  assert stray < 1e-9 and motion.fps == pytest.approx(25) and len(motion.values) == 60
  assert sorted(joint.name for joint in motion.joints if "_to_" not in joint.name) == sorted(skeleton.JOINTS)
  np.testing.assert_allclose(motion.values[0, 6:], 0, atol=1e-4)  # and the rest pose needs no rotation


def bvh_rest() -> np.ndarray:
  """The T-pose of LENGTHS, Y up."""
  rest = np.zeros((17, 3))
  for joint, parent in enumerate(skeleton.PARENTS[1:], 1):
    rest[joint] = rest[parent] + LENGTHS[joint - 1] * bvh_writer._REST[joint]
  return rest


def test_bvh_keeps_directions_and_mean_lengths_where_bones_vary(tmp_path):
  poses = moving_person(80, wild=False)
  stray = bvh_writer.write(tmp_path / "a.bvh", poses, 30.0)
  got, motion = read_bvh(tmp_path / "a.bvh", 100.0)
  parents = list(skeleton.PARENTS[1:])
  bones, want = got[:, 1:] - got[:, parents], poses[:, 1:] - poses[:, parents]
  lengths = np.linalg.norm(want, axis=-1)
  np.testing.assert_allclose(np.linalg.norm(bones, axis=-1), [lengths.mean(0)] * len(lengths), atol=1e-5)
  np.testing.assert_allclose(bones / lengths.mean(0)[:, None], want / lengths[..., None], atol=1e-4)
  np.testing.assert_allclose(np.linalg.norm(got - poses, axis=-1).max(), stray, atol=1e-5)
  assert 0 < stray < 0.3 and np.abs(np.diff(motion.values[:, 3:], axis=0)).max() < 180  # no jumps of a full turn


def test_bvh_takes_bones_without_length_and_refuses_what_is_no_motion(tmp_path):
  poses = moving_person(3)
  poses[:, 10] = poses[:, 9]
  bvh_writer.write(tmp_path / "a.bvh", poses, 25.0)
  np.testing.assert_allclose(read_bvh(tmp_path / "a.bvh", 100.0)[0], poses, atol=1e-5)
  bad = poses.copy()
  bad[1, 4] = np.nan
  for value, fps, unit, message in (
      (bad, 25.0, "cm", "not finite"), (poses[:, :16], 25.0, "cm", r"\(3, 16, 3\)"), (poses[:0], 25.0, "cm", "T of 1"),
      (poses, 0.0, "cm", "positive rate"), (poses, 25.0, "feet", "unit 'feet'"),
  ):
    with pytest.raises(ValueError, match=message):
      bvh_writer.write(tmp_path / "b.bvh", value, fps, unit)
  assert not (tmp_path / "b.bvh").exists()


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
  """(OpenPose folder of 40 frames, the second person late and one frame empty, what was seen of the first [T names 3])."""
  seen, other = detector_files.detect(40), detector_files.detect(40, 5, (1.2, 0, 5.0))
  frames = [[] if t == 20 else [seen[t], other[t]] if t > 30 else [seen[t]] for t in range(40)]
  return detector_files.write_openpose(tmp_path_factory.mktemp("walk") / "openpose", frames), seen


INTRINSICS = "--intrinsics=" + ",".join(f"{v:g}" for v in detector_files.INTRINSICS)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  """The folder of a pretraining run that never trained: what a base knows is of no interest here."""
  folder = tmp_path_factory.mktemp("runs") / "base"
  config = pretrain.PretrainConfig()
  model = {"num_frames": 3, "width": 16, "depth": 1, "num_heads": 1, "drop_path": 0.0, "dtype": "float32"}
  runs.Run(folder, {"model": model, "pretrain": dataclasses.asdict(config), "clip_fps": 12.5})
  params = pretrain.init_state(jax.random.key(0), MixSTE(**model | {"dtype": jnp.float32}), config).params
  checkpoint.save_tree(folder / "base", params)
  return folder


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, data, base, walk):
  """(Folder of a finished adaptation to the keypoints, what it printed)."""
  folder = tmp_path_factory.mktemp("runs") / "own"
  own = (f"--target=keypoints:{walk[0]}", "--resolution=1920x1080", "--fps=25", INTRINSICS)
  done = run("adapt", SMOKE, data, f"--base={base}", f"--workdir={folder}", *own)
  assert done.returncode == 0, done.stderr[-3000:]
  return folder, done.stdout


def test_adapting_to_own_keypoints_reports_reprojection_instead_of_errors(adapted):
  folder, out = adapted
  results = json.loads((folder / "metrics.json").read_text())
  assert set(results) == {"source_only", "adapted", "protocol"}
  for name in ("source_only", "adapted"):
    assert np.isfinite(results[name]["reprojection_px"]) and results[name]["frames"] == 39 and "mpjpe_mm" not in results[name]
  assert results["source_only"]["reprojection_px"] != results["adapted"]["reprojection_px"]
  protocol = results["protocol"]
  assert "no error in mm" in protocol["measured"] and protocol["keypoints_2d"] == "openpose, joint rule body25"
  assert protocol["intrinsics"] == protocol["fps"] == "given" and ":all frames (2D and" in protocol["adapted_on"]
  assert "no ground truth" in out and "openpose (recognised), layout body25" in out and "1 of 40 interpolated" in out
  config = json.loads((folder / "config.json").read_text())["own_keypoints"]
  assert config["resolution"] == [1920, 1080] and len(config["keypoints_crc32"]) == 8
  assert (folder / "figures" / "comparison.png").stat().st_size > 10_000


def test_lift_writes_poses_metadata_picture_and_bvh(adapted, walk, tmp_path):
  what = (f"--run={adapted[0]}", f"--keypoints={walk[0]}", "--resolution=1920x1080", "--hypotheses=3", "--select=joint")
  out = run_well("lift", *what, f"--output={tmp_path}/walk.npz", f"--bvh={tmp_path}/walk.bvh")
  assert "warning: intrinsics not given: focal length guessed as 1920 px" in out and "Reprojection error: mean" in out
  data = np.load(tmp_path / "walk.npz")  # no pickle inside
  assert data["frame"].tolist() == list(range(40)) and np.flatnonzero(~data["detected"]).tolist() == [20]
  assert data["hypotheses_root_m"].shape == (3, 40, 17, 3) and data["pose_root_m"].dtype == np.float32
  np.testing.assert_array_equal(data["pose_root_m"][:, 0], 0)
  root = data["pose_camera_m"][:, 0]
  np.testing.assert_allclose(data["pose_camera_m"] - root[:, None], data["pose_root_m"], atol=1e-5)
  points, scores = detector_files.expected(walk[1], "body25")
  there = data["detected"]
  np.testing.assert_allclose(data["keypoints_px"][there], points[there], atol=2e-3)
  np.testing.assert_allclose(data["confidence"][there], scores[there], atol=1e-3)
  seen = camera.project(data["pose_camera_m"].reshape(-1, 3), data["intrinsics"]).reshape(40, 17, 2)
  distance, weight = np.linalg.norm(seen - data["keypoints_px"], axis=-1)[there], data["confidence"][there]
  np.testing.assert_allclose(data["reprojection_px"][there], (distance * weight).sum(-1) / weight.sum(-1), rtol=1e-3, atol=1e-2)
  assert np.isnan(data["reprojection_px"][20])
  metadata = json.loads(str(data["metadata"]))
  assert metadata["format"] == "openpose" and metadata["intrinsics"].startswith("guessed") and metadata["num_people"] == 2
  assert (metadata["hypotheses"], metadata["selection"], metadata["weights"]) == (3, "joint", "adapted")
  assert ["focal length" in w or "fps" in w for w in metadata["warnings"]] == [True, True]
  picture = plt.imread(tmp_path / "walk.png")
  assert picture.shape[0] > 400 and picture[..., :3].std() > 0.02
  positions, motion = read_bvh(tmp_path / "walk.bvh", 100.0)
  np.testing.assert_allclose(positions[:, 0], root, atol=1e-4)
  assert motion.fps == pytest.approx(30)
  assert not list(tmp_path.glob("*.part"))


def test_what_a_user_gets_wrong_in_lift_is_one_line(base, walk, tmp_path):
  line = error_of("lift", f"--base={base}", f"--keypoints={walk[0]}", "--resolution=640x360", f"--output={tmp_path}/a.npz")
  assert "outside 640x360 px" in line and not list(tmp_path.iterdir())
  line = error_of("lift", f"--base={base}", f"--keypoints={walk[0]}", "--resolution=1920x1080", "--refine=body",
                  f"--output={tmp_path}/a.npz")
  assert "does not know its source's bone lengths, which refine body needs: give an adaptation run" in line
