"""Small 3DPW sequence files for the tests, and the content that a reader must return.

People walk before a phone in a world with y up. Joints are found by name, not by the reader's tables.
"""

import pathlib
import pickle
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from posynda_jax.geometry import skeleton
from tests.datasets import dummy

SMPL = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
SMPL_PARENTS = (0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)  # without the root
COCO = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear",
)  # fmt: skip
_RENAMED = {"hip": "pelvis", "spine": "spine2", "thorax": "neck", "neck": "nose"}
NAMES = [_RENAMED.get(name, name) for name in skeleton.JOINTS]
H36M_ENDS = NAMES[1:7] + NAMES[11:]


class Spec(NamedTuple):
  """A sequence to write."""

  split: str
  name: str
  actors: int
  frames: int
  portrait: bool


SPECS = (
    Spec("train", "courtyard_basketball_00", 2, 12, True),
    Spec("train", "outdoors_slalom_00", 1, 9, False),
    Spec("validation", "outdoors_golf_00", 1, 10, False),
    Spec("test", "downtown_walking_00", 2, 14, True),
    Spec("test", "flat_guitar_01", 1, 8, False),
)


def write(folder, specs=SPECS, spoil=None) -> dict:
  """Writes `sequenceFiles/<split>/<name>.pkl`; returns {(name, actor): what a reader must find}.

  Frame 0 of every actor is not aligned (its camera is somewhere else). Nothing is detected in frame 2, and no left eye
  in frame 3. `spoil(content)` may change a sequence's dict before it is written.
  """
  truth = {}
  for number, spec in enumerate(specs):
    content, views = sequence(np.random.default_rng(number), spec)
    if spoil is not None:
      spoil(content)
    path = pathlib.Path(folder) / "sequenceFiles" / spec.split / f"{spec.name}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, 2))
    truth |= {(spec.name, actor): view for actor, view in enumerate(views)}
  return truth


def sequence(rng: np.random.Generator, spec: Spec) -> tuple[dict, list[dict]]:
  """The dict of one sequence file; for each actor that dict and the points by name, in m (camera frame) and px."""
  frames, cam_poses = spec.frames, _cameras(spec.frames)
  cx, cy = (541.5, 957.5) if spec.portrait else (961.5, 537.5)
  matrix = np.array([[1969.2, 0, cx], [0, 1961.9, cy], [0, 0, 1]])
  people = [_person(rng, frames, 0.9 * actor) for actor in range(spec.actors)]
  rotations, translations = cam_poses[:, :3, :3], cam_poses[:, :3, 3]
  in_camera = [
      {name: np.einsum("tab,tb->ta", rotations, points) + translations for name, points in person.items()}
      for person in people
  ]
  detections = [_detect(rng, person, matrix) for person in in_camera]
  valid = np.ones((spec.actors, frames), np.int64)
  valid[:, 0] = 0
  valid[1:, 5] = 0
  actors = range(spec.actors)
  content = {
      "sequence": spec.name,
      "betas": [rng.normal(size=300 if actor else 10) for actor in actors],
      "poses": [0.2 * rng.normal(size=(frames, 72)) for _ in actors],
      "trans": [0.2 * rng.normal(size=(frames, 3)) for _ in actors],
      "genders": ["m", "f"][: spec.actors],
      "texture_maps": [None] * spec.actors,
      "poses2d": [np.asfortranarray(points.transpose(0, 2, 1)) for points in detections],
      "jointPositions": [np.concatenate([person[name] for name in SMPL], 1) for person in people],
      "img_frame_ids": 2 * np.arange(frames),
      "cam_poses": cam_poses,
      "campose_valid": list(valid),
      "cam_intrinsics": matrix,
  }
  views = [
      {"content": content, "camera": points, "valid": ok > 0, "detected": dict(zip(COCO, found.transpose(1, 0, 2)))}
      for points, ok, found in zip(in_camera, valid, detections)
  ]
  return content, views


def write_smpl(folder) -> None:
  """Writes `smpl/`: two random body models of 48 vertices, and a regressor in the file's order (left leg first).

  Two vertices belong to each joint. The regressor takes its joints from them, as the approximation from SMPL-24 does.
  """
  folder = pathlib.Path(folder) / "smpl"
  folder.mkdir(parents=True, exist_ok=True)

  def at(*wanted):
    """A row of a regressor: the mean of the wanted joints."""
    return np.repeat([wanted.count(name) / (2 * len(wanted)) for name in SMPL], 2)

  trunk = [at("spine2"), at("neck"), at("neck", "head"), at("head")]
  rows = [at("pelvis"), *map(at, H36M_ENDS[3:6] + H36M_ENDS[:3]), *trunk, *map(at, H36M_ENDS[6:])]
  np.save(folder / "J_regressor_h36m.npy", np.stack(rows))
  for number, name in enumerate(("SMPL_MALE", "SMPL_FEMALE")):
    rng = np.random.default_rng(number)
    np.savez(
        folder / f"{name}.npz",
        v_template=rng.normal(0, 0.3, (48, 3)),
        shapedirs=rng.normal(0, 0.01, (48, 3, 300 if number else 10)),
        posedirs=rng.normal(0, 0.01, (48, 3, 207)),
        weights=0.8 * np.repeat(np.eye(24), 2, 0) + 0.2 * rng.dirichlet(np.ones(24), 48),
        J_regressor=np.stack([at(name) for name in SMPL]),
        kintree_table=np.array([(2**32 - 1, *SMPL_PARENTS), range(24)], np.uint32),
    )


def _person(rng: np.random.Generator, frames: int, aside: float) -> dict[str, np.ndarray]:
  """World positions [T 3] by name of a person who walks on a path that begins at x = `aside`."""
  poses = dummy.walk(rng, frames, fps=10.0).astype(np.float64)
  poses += [aside, 0, 0] - poses[:1, :1] * [1, 0, 1]
  body = dict(zip(NAMES, poses.transpose(1, 0, 2)))
  across = 0.1 * (body["left_shoulder"] - body["right_shoulder"])
  for name in {*SMPL, *COCO} - {*body}:
    side = name.startswith("left") - 1.0 * name.startswith("right")
    body[name] = body["head" if name in COCO else "spine2"] + side * across
  return body


def _cameras(frames: int) -> np.ndarray:
  """World to camera [T 4 4] of a tilted phone 6 m away that pans; in frame 0 it is somewhere else."""
  poses = np.tile(np.eye(4), (frames, 1, 1))
  angles = np.stack([np.full(frames, 5), np.linspace(-3, 6, frames)], 1)
  poses[:, :3, :3] = Rotation.from_euler("ZY", angles, degrees=True).as_matrix() @ np.diag([1.0, -1, -1])
  poses[:, :3, 3] = -poses[:, :3, :3] @ [0.3, 1.2, 6]
  poses[0, :3, 3] += [20, 0, 0]
  return poses


def _detect(rng: np.random.Generator, points: dict[str, np.ndarray], matrix: np.ndarray) -> np.ndarray:
  """OpenPose points [T 18 3]: 2 px of noise, confidences, nobody in frame 2 and no left eye in frame 3."""
  image = np.stack([points[name] for name in COCO], 1) @ matrix.T
  px = image[..., :2] / image[..., 2:] + rng.normal(0, 2, image[..., :2].shape)
  found = np.concatenate([px, rng.uniform(0.4, 0.95, px.shape[:2] + (1,))], -1)
  found[2] = 0
  found[3, COCO.index("left_eye")] = 0
  return found
