"""Small 3DPW sequence files as their owners write them, of people who walk past a phone, and the truth that they hold.

World: y up; the person's left is +x, and they face +z, towards the camera. Joints are found by name, not by the reader's tables.
"""

import dataclasses
import pathlib

import numpy as np

from posynda_jax.datasets.mocap import rotations
from posynda_jax.datasets.threedpw import python2_pickle

# SMPL-24: joint -> (parent, offset from it in m).
SMPL = {
    "pelvis": (None, (0, 0, 0)), "left_hip": ("pelvis", (0.07, -0.09, 0)), "right_hip": ("pelvis", (-0.07, -0.09, 0)),
    "spine1": ("pelvis", (0, 0.11, -0.02)), "left_knee": ("left_hip", (0.03, -0.38, 0)),
    "right_knee": ("right_hip", (-0.03, -0.38, 0)), "spine2": ("spine1", (0, 0.14, 0.02)),
    "left_ankle": ("left_knee", (-0.01, -0.4, -0.04)), "right_ankle": ("right_knee", (0.01, -0.4, -0.04)),
    "spine3": ("spine2", (0, 0.06, 0)), "left_foot": ("left_ankle", (0.03, -0.06, 0.12)),
    "right_foot": ("right_ankle", (-0.03, -0.06, 0.12)), "neck": ("spine3", (0, 0.21, -0.03)),
    "left_collar": ("spine3", (0.08, 0.12, -0.02)), "right_collar": ("spine3", (-0.08, 0.12, -0.02)),
    "head": ("neck", (0, 0.09, 0.05)), "left_shoulder": ("left_collar", (0.09, 0.03, -0.01)),
    "right_shoulder": ("right_collar", (-0.09, 0.03, -0.01)), "left_elbow": ("left_shoulder", (0.05, -0.25, -0.02)),
    "right_elbow": ("right_shoulder", (-0.05, -0.25, -0.02)), "left_wrist": ("left_elbow", (0.02, -0.24, 0.06)),
    "right_wrist": ("right_elbow", (-0.02, -0.24, 0.06)), "left_hand": ("left_wrist", (0, -0.08, 0.02)),
    "right_hand": ("right_wrist", (0, -0.08, 0.02)),
}  # fmt: skip
COCO = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
    "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
FACE = {
    "nose": (0, 0.05, 0.12), "right_eye": (-0.03, 0.09, 0.1), "left_eye": (0.03, 0.09, 0.1), "right_ear": (-0.07, 0.07, 0.02),
    "left_ear": (0.07, 0.07, 0.02),
}  # from the head
LEG, ARM = ("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")
H36M_ENDS = [f"{side}_{joint}" for side, limb in (("right", LEG), ("left", LEG), ("left", ARM), ("right", ARM)) for joint in limb]


@dataclasses.dataclass(frozen=True)
class Spec:
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


def write(folder, specs=SPECS, seed: int = 0, spoil=None) -> dict:
  """Writes `sequenceFiles/<split>/<name>.pkl`; returns {(name, actor): what a reader must find}.

  Frame 0 of every actor is not aligned (its camera is nonsense) and nothing is detected in frame 2, nor the left eye in frame
  3. `spoil(content)` may change a sequence's dict before it is written.
  """
  truth = {}
  for number, spec in enumerate(specs):
    content, views = sequence(np.random.default_rng([seed, number]), spec)
    if spoil is not None:
      spoil(content)
    path = pathlib.Path(folder) / "sequenceFiles" / spec.split / f"{spec.name}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(python2_pickle.dumps(content))
    truth |= {(spec.name, actor): view for actor, view in enumerate(views)}
  return truth


def sequence(rng: np.random.Generator, spec: Spec) -> tuple[dict, list[dict]]:
  """The dict of one sequence file, and for every actor that dict and the points by name, in m and px."""
  frames = spec.frames
  cam_poses = _cameras(frames)
  centre = (540.0, 960.0) if spec.portrait else (960.0, 540.0)
  matrix = np.array([[1969.2, 0, centre[0] + 1.5], [0, 1961.9, centre[1] - 2.5], [0, 0, 1]])
  people = [_walk(rng, frames, 0.9 * actor) for actor in range(spec.actors)]
  in_camera = [{name: _apply(cam_poses, points) for name, points in person.items()} for person in people]
  in_image = [{name: _project(matrix, points) for name, points in person.items()} for person in in_camera]
  detections = [_detect(rng, person) for person in in_image]
  valid = np.ones((spec.actors, frames), np.int64)
  valid[:, 0] = 0
  valid[1:, 5] = 0
  per_actor = lambda *shape: [0.2 * rng.normal(size=shape) for _ in range(spec.actors)]
  content = {
      "sequence": spec.name,
      "betas": [rng.normal(size=10 if actor == 0 else 300) for actor in range(spec.actors)],
      "poses": per_actor(frames, 72),
      "trans": per_actor(frames, 3),
      "poses_60Hz": per_actor(2 * frames, 72),
      "trans_60Hz": per_actor(2 * frames, 3),
      "betas_clothed": per_actor(10),
      "v_template_clothed": per_actor(30, 3),
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
      {
          "content": content, "camera": points, "image": image, "valid": valid[actor] > 0,
          "detected": dict(zip(COCO, found.transpose(1, 0, 2))),
      }
      for actor, (points, image, found) in enumerate(zip(in_camera, in_image, detections))
  ]
  return content, views


def write_smpl(folder, seed: int = 0) -> None:
  """Writes `smpl/`: two body models of 48 vertices with SMPL's arrays, and a regressor in the file's order (left leg first).

  Two vertices lie about each rest joint. The regressor takes joints from there, as the approximation from SMPL-24 does.
  """
  folder = pathlib.Path(folder) / "smpl"
  folder.mkdir(parents=True, exist_ok=True)
  names = list(SMPL)
  rest = _forward({name: np.array([offset], np.float64) for name, (_, offset) in SMPL.items()})
  at = lambda *wanted: np.repeat([wanted.count(name) / (2 * len(wanted)) for name in names], 2)
  order = [*H36M_ENDS[3:6], *H36M_ENDS[:3]]
  rows = [at("pelvis"), *map(at, order), at("spine2"), at("neck"), at("neck", "head"), at("head"), *map(at, H36M_ENDS[6:])]
  np.save(folder / "J_regressor_h36m.npy", np.stack(rows))
  for number, name in enumerate(("SMPL_MALE", "SMPL_FEMALE")):
    rng = np.random.default_rng([seed, number])
    bumps = rng.normal(0, 0.03, (24, 3))
    weights = 0.8 * np.repeat(np.eye(24), 2, 0) + 0.2 * rng.dirichlet(np.ones(24), 48)
    np.savez(
        folder / f"{name}.npz",
        v_template=np.stack([np.concatenate([rest[n] + b, rest[n] - b]) for n, b in zip(names, bumps)]).reshape(48, 3),
        shapedirs=rng.normal(0, 0.01, (48, 3, 300 if number else 10)),
        posedirs=rng.normal(0, 0.01, (48, 3, 207)),
        weights=weights,
        J_regressor=np.stack([at(name) for name in names]),
        kintree_table=np.array([[2**32 - 1] + [names.index(SMPL[n][0]) for n in names[1:]], range(24)], np.uint32),
    )


def _walk(rng: np.random.Generator, frames: int, aside: float) -> dict[str, np.ndarray]:
  """World positions [T 3] by name of one who walks towards the camera: limbs swing about x, knees bend."""
  phase = np.linspace(0, 3, frames) + rng.uniform(0, 6)
  offsets = {name: np.tile(np.array(offset, np.float64), (frames, 1)) for name, (_, offset) in (SMPL | _face()).items()}
  for side, sign in (("left", 1), ("right", -1)):
    swing = 23 * sign * np.sin(phase)
    turns = {"knee": -swing, "ankle": 35 - swing, "foot": 35 - swing, "elbow": swing, "wrist": swing, "hand": swing}
    for joint, degrees in turns.items():
      offset = offsets[f"{side}_{joint}"][..., None]
      offsets[f"{side}_{joint}"] = (rotations.axis_rotation("X", degrees) @ offset)[..., 0]
  offsets["pelvis"] += [aside, 0.95, 0] + np.linspace(0, 0.5, frames)[:, None] * [0, 0, 1]
  return _forward(offsets)


def _face() -> dict:
  return {name: ("head", offset) for name, offset in FACE.items()}


def _forward(offsets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  parents = {name: parent for name, (parent, _) in (SMPL | _face()).items()}
  places = {}
  for name, offset in offsets.items():
    places[name] = offset + (places[parents[name]] if parents[name] else 0)
  return places


def _cameras(frames: int) -> np.ndarray:
  """World to camera [T 4 4] of a tilted phone 5 m away that pans; in frame 0 it is somewhere else."""
  poses = np.tile(np.eye(4), (frames, 1, 1))
  pan = rotations.axis_rotation("Y", np.linspace(-3, 6, frames))
  poses[:, :3, :3] = rotations.axis_rotation("Z", 5) @ pan @ np.diag([1.0, -1, -1])
  poses[:, :3, 3] = -poses[:, :3, :3] @ [0.3, 1.2, 5]
  poses[0, :3, 3] += [20, 0, 0]
  return poses


def _apply(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
  return np.einsum("tab,tb->ta", matrices[:, :3, :3], points) + matrices[:, :3, 3]


def _project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
  image = points @ matrix.T
  return image[:, :2] / image[:, 2:]


def _detect(rng: np.random.Generator, image: dict[str, np.ndarray]) -> np.ndarray:
  """OpenPose points [T 18 3]: 2 px of noise, confidences, nobody in frame 2 and no left eye in frame 3."""
  points = np.stack([image[name] for name in COCO], 1) + rng.normal(0, 2, (len(image["neck"]), 18, 2))
  found = np.concatenate([points, rng.uniform(0.4, 0.95, points.shape[:2] + (1,))], -1)
  found[2] = 0
  found[3, COCO.index("left_eye")] = 0
  return found
