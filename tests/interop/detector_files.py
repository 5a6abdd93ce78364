"""Keypoint files as detectors write them, of a person whose 3D is known, and the Human3.6M-17 joints expected of them.

`frames` is a list over time of lists of people, each [names 3]: px and score of every name in `ALL`.
"""

import json
import zipfile

import numpy as np

from tests import scene

W, H = 1920, 1080
INTRINSICS = np.array([1400, 1390, 970, 530, -0.1, 0.05, 0, 0.001, -0.001], np.float32)
# The orders as the detectors' documentation lists them.
COCO17 = "nose l_eye r_eye l_ear r_ear l_sho r_sho l_elb r_elb l_wri r_wri l_hip r_hip l_kne r_kne l_ank r_ank".split()
COCO18 = (
    "nose neck r_sho r_elb r_wri l_sho l_elb l_wri r_hip r_kne r_ank l_hip l_kne l_ank r_eye l_eye r_ear l_ear"
).split()
FEET = "l_toe l_small l_heel r_toe r_small r_heel".split()
BODY25 = [*COCO18[:8], "mid_hip", *COCO18[8:], *FEET]
HALPE26 = [*COCO17, "head", "neck", "mid_hip", "l_toe", "r_toe", "l_small", "r_small", "l_heel", "r_heel"]
MEDIAPIPE = (
    "nose x0 l_eye x1 x2 r_eye x3 l_ear r_ear x4 x5 l_sho r_sho l_elb r_elb l_wri r_wri y0 y1 y2 y3 y4 y5 "
    "l_hip r_hip l_kne r_kne l_ank r_ank l_heel r_heel l_toe r_toe"
).split()
_LEGS, _ARMS = "r_hip r_kne r_ank l_hip l_kne l_ank".split(), "l_sho l_elb l_wri r_sho r_elb r_wri".split()
H36M = [None, *_LEGS, *[None] * 4, *_ARMS]
FILLERS = [f"z{i}" for i in range(120)]  # face and hands, which no rule needs
ALL = [*COCO17, "neck", "mid_hip", "head", *FEET, *[n for n in MEDIAPIPE if n[0] in "xy"], *FILLERS]


def project(points: np.ndarray) -> np.ndarray:
  """Px [... 2] of points [... 3] by INTRINSICS: `camera.project` without a program for each number of frames."""
  m, (k, p) = points[..., :2] / points[..., 2:], np.split(INTRINSICS[4:], [3])
  r2 = (m * m).sum(-1, keepdims=True)
  radial = 1 + k[0] * r2 + k[1] * r2**2 + k[2] * r2**3
  return INTRINSICS[:2] * (m * (radial + (p * m).sum(-1, keepdims=True)) + p * r2) + INTRINSICS[2:4]


def detect(num_frames: int, seed: int = 0, place=(0.0, 0.0, 4.5)) -> np.ndarray:
  """Exact px and random scores [T names 3] of a swaying person, for all names in `ALL`."""
  rng = np.random.default_rng(seed)
  body = scene.motion(num_frames, seed) * [1, -1, -1] + [0, 0.95, 0] + place
  points = dict(zip(H36M, body.swapaxes(0, 1)))
  head = body[:, 10]
  points |= {"neck": body[:, 8] + [0, -0.02, 0.01], "mid_hip": body[:, 0] + [0.01, 0.02, 0], "head": head}
  face = {"nose": (0, 0.12, -0.1), "l_eye": (0.03, 0.08, -0.08), "r_eye": (-0.03, 0.08, -0.08)}
  for name, offset in (face | {"l_ear": (0.07, 0.1, 0), "r_ear": (-0.07, 0.1, 0)}).items():
    points[name] = head + offset
  for name in [name for name in ALL if name not in points]:  # in one order, whatever the process's hash seed
    points[name] = body[:, 3] + rng.uniform(-0.2, 0.2, 3)
  stacked = np.stack([points[name] for name in ALL], 1).astype(np.float32)
  px = project(stacked)
  return np.concatenate([px, rng.uniform(0.3, 1, px.shape[:2] + (1,))], -1)


def pick(seen: np.ndarray, names) -> np.ndarray:
  return seen[..., [ALL.index(name) for name in names], :]


def expected(seen: np.ndarray, rule: str) -> tuple[np.ndarray, np.ndarray]:
  """Points [T 17 2] and scores [T 17] by the rules of DATASETS.md 4.1."""
  at = {name: seen[:, i, :2] for i, name in enumerate(ALL)}
  score = {name: seen[:, i, 2] for i, name in enumerate(ALL)}

  def mean(*names):
    return np.mean([at[n] for n in names], 0), np.min([score[n] for n in names], 0)

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


def people(frames):
  """(frame, place among its people, person [names 3]) of all."""
  return [(t, i, person) for t, persons in enumerate(frames) for i, person in enumerate(persons)]


def shares(person, names) -> np.ndarray:
  return pick(person, names) / [W, H, 1]


def write_json(path, document, **style):
  path.write_text(json.dumps(document, **style))
  return path


def write_openpose(path, frames, names=BODY25, key="pose_keypoints_2d", person_id=True):
  path.mkdir()
  for t, persons in enumerate(frames):
    rest = {f"{part}_keypoints_2d": [] for part in ("face", "hand_left", "hand_right")}
    rest |= {f"{part}_keypoints_3d": [] for part in ("pose", "face", "hand_left", "hand_right")}
    rest |= {"person_id": [-1]} if person_id else {}
    document = {"version": 1.3, "people": [{key: flat(person, names, 3)} | rest for person in persons]}
    write_json(path / f"walk_{t:012d}_keypoints.json", document, separators=(",", ":"))
  return path


def alphapose_entries(frames, names=COCO17, idx=False):
  for t, i, person in people(frames):
    entry = {"image_id": f"{t}.jpg", "category_id": 1, "keypoints": flat(person, names), "score": 2.7}
    entry["idx"] = [float(i + 1)] if idx else 0.0  # untracked people all have 0.0
    yield entry | {"box": [1.0, 2.0, 3.0, 4.0]}


def write_alphapose(path, frames, names=COCO17, idx=False):
  return write_json(path, list(alphapose_entries(frames, names, idx)))


def write_alphapose_open(path, frames, group="people", key="pose_keypoints_2d"):
  """`--format open` and `cmu`: entries by image, the neck made of the shoulders, COCO-18."""
  document = {}
  for entry in alphapose_entries(frames):
    k = entry["keypoints"]
    k += [(k[15 + i] + k[18 + i]) / 2 for i in range(3)]
    order = [0, 51, 18, 24, 30, 15, 21, 27, 36, 42, 48, 33, 39, 45, 6, 3, 12, 9]
    image = document.setdefault(entry["image_id"], {"version": "AlphaPose v0.3", group: []})
    image[group].append({key: [k[i + j] for i in order for j in range(3)]})
  return write_json(path, document)


def instances(persons, names=COCO17, track=False):
  for i, person in enumerate(persons):
    values = pick(person, names)
    one = {"keypoints": values[:, :2].tolist(), "keypoint_scores": values[:, 2].tolist()}
    yield one | {"bbox": [[1.0, 2.0, 3.0, 4.0]], "bbox_score": 1.0} | ({"track_id": i} if track else {})


def write_mmpose(path, frames, names=COCO17, dataset="coco", track=False):
  """The demo scripts: tabs, arrays of `meta_info` as json_tricks spells them, frames from 1."""
  meta = {
      "dataset_name": dataset, "num_keypoints": len(names), "flip_indices": [0],
      "keypoint_id2name": {str(i): name for i, name in enumerate(names)},
      "keypoint_colors": {"__ndarray__": [[51, 153, 255]], "dtype": "uint8", "shape": [1, 3]},
  }
  return write_json(path, {"meta_info": meta, "instance_info": mmpose_frames(frames, 1, names, track)}, indent="\t")


def mmpose_frames(frames, first=0, names=COCO17, track=False):
  entries = enumerate(frames, first)
  return [{"frame_id": t, "instances": list(instances(persons, names, track))} for t, persons in entries]


def write_inferencer_images(path, frames):
  path.mkdir()
  for t, persons in enumerate(frames):
    write_json(path / f"{t:06d}.json", list(instances(persons)), indent=2)
  return path


def write_yolo(path, frames, conf=False, track=False, visible=True):
  """Ultralytics `save_txt`: %g, frames from 1, no file for a frame without people, unseen joints at 0 0."""
  path.mkdir()
  for t, i, person in people(frames):
    line = (0, 0.5, 0.5, 0.2, 0.6, *shares(person, COCO17)[:, : 3 if visible else 2].ravel())
    line += (0.875,) * conf + (i + 1,) * track
    with open(path / f"walk_{t + 1}.txt", "a") as file:
      file.write(" ".join("%g" % number for number in line) + "\n")
  return path


def landmarks(person):
  return [{"x": x, "y": y, "z": -0.1, "visibility": v} for x, y, v in shares(person, MEDIAPIPE).tolist()]


def boxed(person):
  return {"name": "person", "class": 0, "keypoints": dict(zip(("x", "y", "visible"), pick(person, COCO17).T.tolist()))}


def skeleton(person):
  values = shares(person, COCO18)
  return {"pose": values[:, :2].ravel().tolist(), "score": values[:, 2].tolist()}


def write_coco_annotations(path, frames):
  images = [{"id": 7 * t, "file_name": f"walk_{t:06}.png", "width": W, "height": H} for t in range(len(frames))]
  found = [
      {"id": t, "image_id": 7 * t, "category_id": 1, "keypoints": flat(person, COCO17)}
      for t, _, person in people(frames)]
  return write_json(path, {"info": {}, "images": images, "annotations": found})


DOCUMENTS = {  # detector -> what its JSON file holds of the frames
    "inferencer": mmpose_frames,
    "coco": lambda frames: [
        {"image_id": t, "category_id": 1, "keypoints": flat(person, COCO17), "score": 0.9}
        for t, _, person in people(frames)],
    "mediapipe": lambda frames: [landmarks(persons[0]) if persons else None for persons in frames],
    "mediapipe_tasks": lambda frames: [[landmarks(person) for person in persons] for persons in frames],
    "controlnet": lambda frames: [
        {"people": [{"pose_keypoints_2d": shares(person, COCO18).ravel().tolist()} for person in persons],
         "canvas_width": W, "canvas_height": H} for persons in frames],
    "poseflow": lambda frames: {
        f"{t}.jpg": [{"keypoints": flat(person, COCO17), "scores": 2.1, "idx": i} for i, person in enumerate(persons)]
        for t, persons in enumerate(frames)},
    "ultralytics": lambda frames: [[boxed(person) for person in persons] for persons in frames],
    "skeletons": lambda frames: {"label": "walk", "data": [
        {"frame_index": t, "skeleton": [skeleton(person) for person in persons]} for t, persons in enumerate(frames)]},
}


def write_npz(path, **arrays):
  with open(path, "wb") as file:  # given a name, NumPy appends .npz
    np.savez_compressed(file, **arrays)
  return path


def stacked(frames, names=ALL) -> np.ndarray:
  """[T people j 3], zeros where there is nobody."""
  found = np.zeros((len(frames), max(1, *map(len, frames)), len(names), 3))
  for t, i, person in people(frames):
    found[t, i] = pick(person, names)
  return found


def mediapipe_array(frames):
  values = stacked(frames, MEDIAPIPE)[:, 0] / [W, H, 1]
  return np.insert(values, 2, -0.1, axis=2)


ARRAYS = {  # detector -> arrays of its npz file
    "mediapipe": lambda frames: {"landmarks": mediapipe_array(frames)},
    "video_to_pose3d": lambda frames: {"kpts": stacked(frames, COCO17)[:, 0, :, :2]},
    "mhformer": lambda frames: {"reconstruction": expected(stacked(frames)[:, 0], "simple")[0][None]},
    "keypoints_scores": lambda frames: {
        "keypoints": stacked(frames, COCO17)[..., :2], "scores": stacked(frames, COCO17)[..., 2]},
}


def write_plain(path, frames):
  with open(path, "wb") as file:
    np.save(file, stacked(frames, COCO17)[:, 0])
  return path


def write_videopose3d(path, frames, videos=("walk",)):
  symmetry = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
  metadata = {"layout_name": "coco", "num_joints": 17, "keypoints_symmetry": symmetry}
  metadata["video_metadata"] = {f"{video}.mp4": {"w": W, "h": H} for video in videos}
  points = stacked(frames, COCO17)[:, 0, :, :2].astype("float32")
  return write_npz(path, positions_2d={f"{video}.mp4": {"custom": [points]} for video in videos}, metadata=metadata)


def write_detectron(path, frames):
  """`infer_video_d2.py`: one object array entry a frame, [[], people], x, y, dummy logit, probability in rows."""
  boxes, keypoints = np.empty((len(frames), 2), object), np.empty((len(frames), 2), object)
  for t, persons in enumerate(frames):
    boxes[t, 0], keypoints[t, 0], boxes[t, 1], keypoints[t, 1] = [], [], [], []
    if persons:
      values = np.stack([pick(person, COCO17) for person in persons]).astype(np.float32)
      boxes[t, 1] = np.array([[1, 2, 3, 4, 0.9]] * len(persons), np.float32)
      keypoints[t, 1] = np.stack([values[..., 0], values[..., 1], 0 * values[..., 0], values[..., 2]], 1)
  segments = np.array([None] * len(frames))
  return write_npz(path, boxes=boxes, segments=segments, keypoints=keypoints, metadata={"w": W, "h": H})


def write_csv(path, frames, long=False):
  """A row for each frame of the first person; `long`: a row for each joint."""
  lines = ["frame,person,landmark,x,y,visibility" if long else "frame," + ",".join(
      f"{name}_x,{name}_y,{name}_score" for name in COCO17)]
  for t, i, person in people(frames if long else [persons[:1] for persons in frames]):
    rows = [",".join(map(repr, row)) for row in pick(person, COCO17).tolist()]
    lines += [f"{t},{i},{j},{row}" for j, row in enumerate(rows)] if long else [f"{t}," + ",".join(rows)]
  path.write_text("\n".join(lines) + "\n")
  return path


def write_zip(path, frames):
  """OpenPose's folder in an archive, as macOS packs it."""
  folder = write_openpose(path.parent / f"{path.name}_folder", frames)
  with zipfile.ZipFile(path, "w") as archive:
    for file in sorted(folder.iterdir()):
      archive.write(file, f"walk/{file.name}")
      archive.writestr(f"__MACOSX/walk/._{file.name}", b"\0")
  return path
