"""AMASS, read from tiny files in its form with random bodies."""

import numpy as np
import pytest

from posynda_jax.datasets import load
from posynda_jax.datasets.threedpw import smpl
from posynda_jax.geometry import skeleton
from tests.datasets import dummy_threedpw

SUBJECTS = ("CMU/01", "CMU/02", "KIT/3", "ACCAD/Male1 General_c3d", "KIT/7", "SFU/0005")


def motion(seed: int, num_frames: int = 120, **changes) -> dict:
  """A slow motion at 120 frames a second, as the files hold it."""
  rng, t = np.random.default_rng(seed), np.linspace(0, 1, num_frames)[:, None]
  fields = {
      "poses": 0.3 * np.sin(t + rng.uniform(0, 6, 156)), "trans": np.hstack([t, 2 * t, 1 + 0 * t]),
      "betas": rng.normal(size=16), "gender": np.array(rng.choice(["male", "female"])),
      "mocap_framerate": np.array(120.0), "dmpls": np.zeros((num_frames, 8)),
  }
  return {name: value for name, value in (fields | changes).items() if value is not None}


def write(folder, motions: dict[str, dict]):
  """`folder` with the motions by subject, one take each, and SMPL's files."""
  dummy_threedpw.write_smpl(folder)
  for subject, fields in motions.items():
    (folder / "amass" / subject).mkdir(parents=True)
    np.savez(folder / "amass" / subject / "a walk_poses.npz", **fields)
    np.savez(folder / "amass" / subject / "shape.npz", betas=np.zeros(16))  # not a motion
  return folder


def records(folder, split: str):
  return load.load("amass_mocap/world", split, data_dir=folder / "data", manual_dir=folder)


def test_motions_are_the_regressed_mesh_with_y_up_split_by_person(tmp_path):
  motions = {subject: motion(seed) for seed, subject in enumerate(SUBJECTS)}
  write(tmp_path, motions)
  train, test = records(tmp_path, "train"), records(tmp_path, "test")
  assert {r["subject"] for r in train} | {r["subject"] for r in test} == set(SUBJECTS) and len(train) > len(test) > 0
  regressor = smpl.load_regressor(tmp_path / "smpl/J_regressor_h36m.npy")
  for record in [*train, *test]:
    fields = motions[record["subject"]]
    model = smpl.load_model(tmp_path / f"smpl/SMPL_{str(fields['gender']).upper()}.npz")
    body = np.hstack([fields["poses"][::2, :66], np.zeros((60, 6))])
    points = smpl.regress(model, regressor, body, fields["betas"][:10], fields["trans"][::2])
    x, y, z = np.moveaxis(skeleton.to_h36m(points, "spin17"), -1, 0)
    np.testing.assert_allclose(record["poses_world_m"], np.stack([x, z, -y], -1), atol=1e-5)
    assert (record["fps"], record["action"], record["sequence"]) == (60, "a walk", f"{record['subject']}/a walk")


@pytest.mark.parametrize("changes, message", [
    ({"trans": None}, "a walk_poses.npz has no 'trans': expected a motion of AMASS in the form SMPL"),
    ({"gender": np.array("robot")}, "has the gender 'robot', expected one of male, female, neutral"),
    ({"gender": np.array(b"neutral")}, "SMPL_NEUTRAL.npz does not exist; expected an npz file of plain arrays"),
    ({"poses": np.zeros((120, 60))}, r"has poses \(120, 60\) and trans \(120, 3\), expected \[T 156\] and \[T 3\]"),
])
def test_another_form_is_named(changes, message, tmp_path):
  write(tmp_path, {subject: motion(0, **changes) for subject in SUBJECTS})
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    records(tmp_path, "train")
