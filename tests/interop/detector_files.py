"""Keypoint files as the detectors write them, of a person whose 3D is known, and what Human3.6M-17 must come of them.

`frames` is a list over time of lists of people, each [names 3]: px and score of every name in `ALL`.
"""

import json

import numpy as np

from posynda_jax.geometry import camera
from tests import scene

W, H = 1920, 1080
INTRINSICS = np.array([1400, 1390, 970, 530, -0.1, 0.05, 0, 0.001, -0.001], np.float32)
# The orders as the detectors' documentation lists them.
COCO17 = "nose l_eye r_eye l_ear r_ear l_sho r_sho l_elb r_elb l_wri r_wri l_hip r_hip l_kne r_kne l_ank r_ank".split()
COCO18 = "nose neck r_sho r_elb r_wri l_sho l_elb l_wri r_hip r_kne r_ank l_hip l_kne l_ank r_eye l_eye r_ear l_ear".split()
FEET = "l_toe l_small l_heel r_toe r_small r_heel".split()
BODY25 = [*COCO18[:8], "mid_hip", *COCO18[8:], *FEET]
HALPE26 = [*COCO17, "head", "neck", "mid_hip", "l_toe", "r_toe", "l_small", "r_small", "l_heel", "r_heel"]
MEDIAPIPE = [*"nose x0 l_eye x1 x2 r_eye x3 l_ear r_ear x4 x5 l_sho r_sho l_elb r_elb l_wri r_wri y0 y1 y2 y3 y4 y5".split(),
             *"l_hip r_hip l_kne r_kne l_ank r_ank l_heel r_heel l_toe r_toe".split()]  # fmt: skip
LIMBS = "l_sho r_sho l_elb r_elb l_wri r_wri l_hip r_hip l_kne r_kne l_ank r_ank".split()
H36M = [None, *"r_hip r_kne r_ank l_hip l_kne l_ank".split(), *[None] * 4, *"l_sho l_elb l_wri r_sho r_elb r_wri".split()]
ALL = [*COCO17, "neck", "mid_hip", "head", *FEET, *[n for n in MEDIAPIPE if n[0] in "xy"], *[f"z{i}" for i in range(120)]]


def detect(num_frames: int, seed: int = 0, place=(0.0, 0.0, 4.5)) -> np.ndarray:
  """What a perfect detector sees of a swaying person: [T names 3] px and score, of all names in `ALL`."""
  rng = np.random.default_rng(seed)
  body = scene.motion(num_frames, seed) * [1, -1, -1] + [0, 0.95, 0] + place
  points = dict(zip(H36M, body.swapaxes(0, 1)))
  head = body[:, 10]
  points |= {"neck": body[:, 8] + [0, -0.02, 0.01], "mid_hip": body[:, 0] + [0.01, 0.02, 0], "head": head}
  face = {"nose": (0, 0.12, -0.1), "l_eye": (0.03, 0.08, -0.08), "r_eye": (-0.03, 0.08, -0.08)}
  for name, offset in (face | {"l_ear": (0.07, 0.1, 0), "r_ear": (-0.07, 0.1, 0)}).items():
    points[name] = head + offset
  for name in set(ALL) - set(points):
    points[name] = body[:, 3] + rng.uniform(-0.2, 0.2, 3)
  stacked = np.stack([points[name] for name in ALL], 1).astype(np.float32)
  px = np.asarray(camera.project(stacked, INTRINSICS))
  return np.concatenate([px, rng.uniform(0.3, 1, px.shape[:2] + (1,))], -1)


def pick(seen: np.ndarray, names) -> np.ndarray:
  return seen[..., [ALL.index(name) for name in names], :]


def expected(seen: np.ndarray, rule: str) -> tuple[np.ndarray, np.ndarray]:
  """DATASETS.md 4.1, written out: points [T 17 2] and scores [T 17]."""
  at = {name: seen[:, i, :2] for i, name in enumerate(ALL)}
  score = {name: seen[:, i, 2] for i, name in enumerate(ALL)}
  mean = lambda *names: (np.mean([at[n] for n in names], 0), np.min([score[n] for n in names], 0))
  made = {
      "simple": [
          mean("l_hip", "r_hip"), mean("l_hip", "r_hip", "l_sho", "r_sho"), mean("l_sho", "r_sho"), mean("nose"),
          mean("l_eye", "r_eye"),
      ],
      "body25": [mean("mid_hip"), mean("neck", "mid_hip"), mean("neck"), mean("nose"), mean("l_eye", "r_eye")],
      "halpe26": [mean("mid_hip"), mean("neck", "mid_hip"), mean("neck"), mean("nose"), mean("head")],
  }[rule]
  rows = dict(zip([0, 7, 8, 9, 10], made)) | {i: mean(name) for i, name in enumerate(H36M) if name}
  return tuple(np.stack([rows[i][part] for i in range(17)], 1) for part in (0, 1))


def flat(person, names, digits=None) -> list[float]:
  values = pick(person, names).ravel()
  return [round(float(v), digits) if digits else float(v) for v in values]


def write_openpose(path, frames, names=BODY25, key="pose_keypoints_2d", person_id=True):
  path.mkdir()
  for t, persons in enumerate(frames):
    rest = {f"{part}_keypoints_2d": [] for part in ("face", "hand_left", "hand_right")}
    rest |= {f"{part}_keypoints_3d": [] for part in ("pose", "face", "hand_left", "hand_right")}
    one = lambda person: ({"person_id": [-1]} if person_id else {}) | {key: flat(person, names, 3)} | rest
    document = {"version": 1.3, "people": [one(person) for person in persons]}
    (path / f"walk_{t:012d}_keypoints.json").write_text(json.dumps(document, separators=(",", ":")))
  return path


def write_openpose_old(path, frames):
  return write_openpose(path, frames, COCO18, "pose_keypoints", person_id=False)


def write_openpose_coco(path, frames):
  return write_openpose(path, frames, COCO18)


def alphapose_entries(frames, names=COCO17, idx=False):
  for t, persons in enumerate(frames):
    for i, person in enumerate(persons):
      entry = {"image_id": f"{t}.jpg", "category_id": 1, "keypoints": flat(person, names), "score": 2.7}
      entry["idx"] = [float(i + 1)] if idx else 0.0  # untracked people all have 0.0
      yield entry | {"box": [1.0, 2.0, 3.0, 4.0]}


def write_alphapose(path, frames, names=COCO17, idx=False):
  path.write_text(json.dumps(list(alphapose_entries(frames, names, idx))))
  return path


def write_halpe26(path, frames):
  return write_alphapose(path, frames, HALPE26)


def write_halpe136(path, frames):
  return write_alphapose(path, frames, [*HALPE26, *[f"z{i}" for i in range(110)]])


def write_alphapose_open(path, frames, group="people", key="pose_keypoints_2d"):
  """`--format open` and `cmu`: entries by image, the neck made of the shoulders, COCO-18."""
  document = {}
  for entry in alphapose_entries(frames):
    k = entry["keypoints"]
    k += [(k[15 + i] + k[18 + i]) / 2 for i in range(3)]
    order = [0, 51, 18, 24, 30, 15, 21, 27, 36, 42, 48, 33, 39, 45, 6, 3, 12, 9]
    image = document.setdefault(entry["image_id"], {"version": "AlphaPose v0.3", group: []})
    image[group].append({key: [k[i + j] for i in order for j in range(3)]})
  path.write_text(json.dumps(document))
  return path


def write_alphapose_cmu(path, frames):
  return write_alphapose_open(path, frames, "bodies", "joints")


def instances(persons, names, track):
  for i, person in enumerate(persons):
    values = pick(person, names)
    one = {"keypoints": values[:, :2].tolist(), "keypoint_scores": values[:, 2].tolist()}
    yield one | {"bbox": [[1.0, 2.0, 3.0, 4.0]], "bbox_score": 1.0} | ({"track_id": i} if track else {})


def write_mmpose(path, frames, names=COCO17, dataset="coco", track=False):
  """The demo scripts: tabs, arrays of `meta_info` as json_tricks spells them, frames from 1."""
  meta = {"dataset_name": dataset, "num_keypoints": len(names), "keypoint_id2name": {str(i): n for i, n in enumerate(names)},
          "flip_indices": [0], "keypoint_colors": {"__ndarray__": [[51, 153, 255]], "dtype": "uint8", "shape": [1, 3]}}
  info = [{"frame_id": t, "instances": list(instances(persons, names, track))} for t, persons in enumerate(frames, 1)]
  path.write_text(json.dumps({"meta_info": meta, "instance_info": info}, indent="\t"))
  return path


def write_mmpose_halpe(path, frames):
  return write_mmpose(path, frames, HALPE26, "halpe26")


def write_wholebody(path, frames):
  return write_mmpose(path, frames, [*COCO17, *[f"z{i}" for i in range(116)]], "coco_wholebody")


def write_inferencer(path, frames):
  entries = [{"frame_id": t, "instances": list(instances(persons, COCO17, False))} for t, persons in enumerate(frames)]
  path.write_text(json.dumps(entries, indent=2))
  return path


def write_inferencer_images(path, frames):
  path.mkdir()
  for t, persons in enumerate(frames):
    (path / f"{t:06d}.json").write_text(json.dumps(list(instances(persons, COCO17, False)), indent=2))
  return path


def write_coco(path, frames):
  path.write_text(json.dumps([
      {"image_id": t, "category_id": 1, "keypoints": flat(person, COCO17), "score": 0.9}
      for t, persons in enumerate(frames) for person in persons
  ]))
  return path


def write_yolo(path, frames, conf=False, track=False, visible=True):
  """Ultralytics `save_txt`: %g, frames from 1, no file for a frame without people, unseen joints at 0 0."""
  path.mkdir()
  for t, persons in enumerate(frames, 1):
    lines = []
    for i, person in enumerate(persons):
      values = pick(person, COCO17) / [W, H, 1]
      line = (0, 0.5, 0.5, 0.2, 0.6, *values[:, : 3 if visible else 2].ravel())
      line += (0.875,) * conf + (i + 1,) * track
      lines.append(("%g " * len(line)).rstrip() % line + "\n")
    if lines:
      (path / f"walk_{t}.txt").write_text("".join(lines))
  return path


def write_yolo_full(path, frames):
  return write_yolo(path, frames, conf=True, track=True)


def landmarks(person):
  return [{"x": x / W, "y": y / H, "z": -0.1, "visibility": v} for x, y, v in pick(person, MEDIAPIPE).tolist()]


def write_mediapipe(path, frames):
  path.write_text(json.dumps([landmarks(persons[0]) if persons else None for persons in frames]))
  return path


def write_mediapipe_tasks(path, frames):
  path.write_text(json.dumps([[landmarks(person) for person in persons] for persons in frames]))
  return path


def save_npz(path, **arrays):
  with open(path, "wb") as file:  # numpy appends .npz to names
    np.savez_compressed(file, **arrays)


def first_person(frames, names):
  """[T j 3] of the first person, zeros where there is none."""
  return np.stack([pick(persons[0], names) if persons else np.zeros((len(names), 3)) for persons in frames])


def write_mediapipe_npz(path, frames):
  values = first_person(frames, MEDIAPIPE)
  depth = np.full(values.shape[:2] + (1,), -0.1)
  save_npz(path, landmarks=np.concatenate([values[..., :2] / [W, H], depth, values[..., 2:]], -1))
  return path


def write_videopose3d(path, frames, videos=("walk",)):
  symmetry = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
  metadata = {"layout_name": "coco", "num_joints": 17, "keypoints_symmetry": symmetry}
  metadata["video_metadata"] = {f"{video}.mp4": {"w": W, "h": H} for video in videos}
  points = first_person(frames, COCO17)[..., :2].astype("float32")
  save_npz(path, positions_2d={f"{video}.mp4": {"custom": [points]} for video in videos}, metadata=metadata)
  return path


def write_detectron(path, frames):
  """`infer_video_d2.py`: one object array entry a frame, [[], people], x, y, dummy logit, probability in rows."""
  boxes, keypoints = np.empty((len(frames), 2), object), np.empty((len(frames), 2), object)
  for t, persons in enumerate(frames):
    boxes[t, 0], keypoints[t, 0], boxes[t, 1], keypoints[t, 1] = [], [], [], []
    if persons:
      values = np.stack([pick(person, COCO17) for person in persons]).astype(np.float32)
      boxes[t, 1] = np.array([[1, 2, 3, 4, 0.9]] * len(persons), np.float32)
      keypoints[t, 1] = np.stack([values[..., 0], values[..., 1], 0 * values[..., 0], values[..., 2]], 1)
  save_npz(path, boxes=boxes, segments=np.array([None] * len(frames)), keypoints=keypoints, metadata={"w": W, "h": H})
  return path


def write_video_to_pose3d(path, frames):
  save_npz(path, kpts=first_person(frames, COCO17)[..., :2])
  return path


def write_mhformer(path, frames):
  seen = np.stack([persons[0] if persons else np.zeros((len(ALL), 3)) for persons in frames])
  save_npz(path, reconstruction=expected(seen, "simple")[0][None].astype(np.float32))
  return path


def write_plain(path, frames):
  with open(path, "wb") as file:
    np.save(file, first_person(frames, COCO17))
  return path


# name -> (writer, recognised format, layout, rule, px lost to the file's digits, whether it keeps scores, several people)
FORMATS = {
    "openpose": (write_openpose, "openpose", "body25", "body25", 1e-3, True, True),
    "openpose_old": (write_openpose_old, "openpose", "coco18", "simple", 1e-3, True, True),
    "openpose_coco": (write_openpose_coco, "openpose", "coco18", "simple", 1e-3, True, True),
    "alphapose": (write_alphapose, "alphapose", "coco17", "simple", 0, True, True),
    "halpe26": (write_halpe26, "alphapose", "halpe26", "halpe26", 0, True, True),
    "halpe136": (write_halpe136, "alphapose", "halpe136", "halpe26", 0, True, True),
    "alphapose_open": (write_alphapose_open, "alphapose", "coco18", "simple", 0, True, True),
    "alphapose_cmu": (write_alphapose_cmu, "alphapose", "coco18", "simple", 0, True, True),
    "mmpose": (write_mmpose, "mmpose", "coco17", "simple", 0, True, True),
    "mmpose_halpe": (write_mmpose_halpe, "mmpose", "halpe26", "halpe26", 0, True, True),
    "wholebody": (write_wholebody, "mmpose", "wholebody133", "simple", 0, True, True),
    "inferencer": (write_inferencer, "mmpose_inferencer", "coco17", "simple", 0, True, True),
    "inferencer_images": (write_inferencer_images, "mmpose_inferencer", "coco17", "simple", 0, True, True),
    "coco": (write_coco, "coco_results", "coco17", "simple", 0, True, True),
    "yolo": (write_yolo, "yolo", "coco17", "simple", 2e-3, True, True),
    "yolo_full": (write_yolo_full, "yolo", "coco17", "simple", 2e-3, True, True),
    "mediapipe": (write_mediapipe, "mediapipe", "mediapipe33", "simple", 0, True, False),
    "mediapipe_tasks": (write_mediapipe_tasks, "mediapipe", "mediapipe33", "simple", 0, True, True),
    "mediapipe_npz": (write_mediapipe_npz, "mediapipe", "mediapipe33", "simple", 0, True, False),
    "videopose3d": (write_videopose3d, "videopose3d", "coco17", "simple", 0, False, False),
    "detectron": (write_detectron, "detectron", "coco17", "simple", 0, True, True),
    "video_to_pose3d": (write_video_to_pose3d, "video_to_pose3d", "coco17", "simple", 0, False, False),
    "mhformer": (write_mhformer, "mhformer", "h36m17", "simple", 0, False, False),
    "plain": (write_plain, "plain", "coco17", "simple", 0, True, False),
}
