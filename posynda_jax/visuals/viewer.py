"""One self-contained HTML page of a sequence: skeletons to orbit, the 2D input, and where and when the error lies.

The page asks nothing of a network; its own policy forbids it. Its parts lie in `viewer_page/`. Numbers travel as int16 in
base64: coordinates of poses move by less than 0.1 mm, and ten seconds of 50 frames take about 0.12 MB a skeleton. Texts may come
from strangers' file names, so all are escaped.
"""

import base64
import html
import json
import pathlib
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from posynda_jax.geometry import camera, skeleton
from posynda_jax.visuals import render

_PARTS = pathlib.Path(__file__).parent / "viewer_page"
_ABSENT = -32768  # of an int16
MAX_ERROR_M = 1e-4  # what a coordinate of a pose may lose


def save_page(
    path,
    *,
    poses: Mapping[str, np.ndarray],
    keypoints_px: np.ndarray,
    intrinsics: np.ndarray,
    resolution: Sequence[float],
    fps: float,
    hypotheses: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    valid: np.ndarray | None = None,
    first_frame: int = 0,
    title: str = "Poses",
    notes: Mapping[str, str] | None = None,
) -> int:
  """Bytes written to `path`: an HTML page of T frames.

  Args:
    path: the file.
    poses: name -> [T 17 3]. The first is red and the one measured first; the others are methods to compare it with.
    keypoints_px: the 2D input [T 17 2].
    intrinsics: [9] in px, as in `camera`.
    resolution: (width, height) in px.
    fps: frames a second.
    hypotheses: [H T 17 3], drawn thin in colours of their own.
    truth: [T 17 3]; with it errors are in mm, without it only the reprojection is measured.
    confidence: [T 17], weighs the joints where roots are solved; ones if not given.
    valid: [T] False where nobody was detected: those frames have no reprojection error.
    first_frame: number of the first frame in its video.
    title: heading of the page.
    notes: name -> text, shown below: the protocol, the file, what was guessed.

  All poses are in metres, in the camera frame and Human3.6M-17 order; they are shown relative to their root, and placed before
  the camera by `camera.solve_root` for the projection. NaN marks a joint or frame that is absent and not drawn. Raises
  ValueError for other shapes, infinities, an fps that is none, or poses too large to be in metres.
  """
  keypoints_px, intrinsics = np.asarray(keypoints_px, np.float32), np.asarray(intrinsics, np.float32)
  num_frames = len(keypoints_px)
  named = [(name, "pose", pose) for name, pose in poses.items()]
  named += [(f"hypothesis {h + 1}", "hypothesis", pose) for h, pose in enumerate(() if hypotheses is None else hypotheses)]
  named += [] if truth is None else [("ground truth", "truth", truth)]
  _check(poses, named, keypoints_px, intrinsics, fps)
  confidence = np.ones((num_frames, 17), np.float32) if confidence is None else np.asarray(confidence, np.float32)
  confidence = np.where(confidence.max(-1, keepdims=True) > 0, confidence, 1)  # where nobody was detected, joints count alike
  colours = render.series_colours(len(poses), 0 if hypotheses is None else len(hypotheses))
  series, steps = [], []
  for (name, kind, pose), colour in zip(named, colours + ["#000000"], strict=False):
    pose = np.asarray(pose, np.float32)
    pose = pose - pose[:, skeleton.ROOT, None]
    root, projection = map(np.asarray, project(pose, keypoints_px, intrinsics, confidence))
    series.append({
        "name": name, "kind": kind, "colour": colour, "shown": True, "pose": _pack(pose), "projection": _pack(projection),
        "root": _pack(root),
    })
    steps.append(series[-1]["pose"]["step"])
  if max(steps) / 2 > MAX_ERROR_M:
    raise ValueError(f"poses reach {max(steps) * 32767:.0f} m from the root: expected metres; divide millimetres by 1000")
  data = {
      "fps": float(fps), "joints": [name.replace("_", " ") for name in skeleton.JOINTS], "parents": skeleton.PARENTS,
      "left": skeleton.LEFT, "width": float(resolution[0]), "height": float(resolution[1]), "first_frame": int(first_frame),
      "valid": np.ones(num_frames, int).tolist() if valid is None else np.asarray(valid).astype(int).tolist(),
      "keypoints": _pack(keypoints_px), "series": series,
  }
  facts = {
      **(notes or {}),
      "placement": "every pose stands where it reprojects best onto the keypoints (solve_root); up is the camera's up",
      "errors": "means over the 17 joints, each counting alike",
      "precision": f"this page holds poses in steps of {1000 * max(steps):.3f} mm",
  }
  return pathlib.Path(path).write_bytes(_fill(title, facts, data).encode())


@jax.jit
def project(pose, keypoints_px, intrinsics, confidence):
  """(Solved roots [T 3] in m, image positions [T 17 2] in px) of root-relative poses [T 17 3]: what the page shows of them."""
  root = camera.solve_root(pose, camera.rays(keypoints_px, intrinsics), confidence)
  return root, camera.project(pose + root[:, None], intrinsics)


def _check(poses, named, keypoints_px, intrinsics, fps) -> None:
  """Raises ValueError for what the page cannot show."""
  want = (len(keypoints_px), 17, 3)
  if not poses:
    raise ValueError("no poses to show: give at least one named pose [T 17 3]")
  if keypoints_px.shape != want[:2] + (2,) or not len(keypoints_px):
    raise ValueError(f"keypoints of shape {keypoints_px.shape}: expected [T 17 2] in px, T of 1 or more")
  if intrinsics.shape != (9,):
    raise ValueError(f"intrinsics of shape {intrinsics.shape}: expected nine numbers, fx fy cx cy k1 k2 k3 p1 p2")
  if not (np.isfinite(fps) and fps > 0):
    raise ValueError(f"fps {fps}: expected a positive rate")
  for name, _, pose in named:
    if np.shape(pose) != want:
      raise ValueError(f"{name} of shape {np.shape(pose)}: expected {want}, one pose for each frame of the keypoints")
  for name, values in [("keypoints", keypoints_px)] + [(name, pose) for name, _, pose in named]:
    if np.isinf(values).any():
      raise ValueError(f"{name} holds infinite values: mark what is absent with NaN")


def _pack(values: np.ndarray) -> dict:
  """Values as little-endian int16 in base64: value = q * step + middle, and the lowest q is NaN."""
  known = values[np.isfinite(values)].astype(np.float64)
  low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
  middle, step = (low + high) / 2, max(high - low, 1e-6) / 65534
  q = np.where(np.isfinite(values), np.round((np.nan_to_num(values).astype(np.float64) - middle) / step), _ABSENT)
  return {"values": base64.b64encode(q.astype("<i2").tobytes()).decode(), "middle": middle, "step": step}


def _fill(title: str, facts: Mapping[str, str], data: dict) -> str:
  """The page with its places filled in one pass, so that no text is taken for a place."""
  as_json = json.dumps(data, allow_nan=False)
  places = {
      "title": html.escape(title),
      "notes": "\n".join(f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>" for k, v in facts.items()),
      "data": as_json.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
      "script": "".join((_PARTS / name).read_text(encoding="utf-8") for name in ("draw.js", "act.js")),
  }
  return re.sub(r"\{\{(\w+)\}\}", lambda place: places[place[1]], (_PARTS / "page.html").read_text(encoding="utf-8"))
