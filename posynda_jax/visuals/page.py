"""One self-contained HTML page of a sequence: 3D skeletons, the 2D input, and the error of each joint over time.

The page requests nothing from a network, and its own policy forbids it. The folder `viewer_page/` holds its parts.
Numbers are stored as int16 in base64, so coordinates of poses change by less than 0.1 mm. Ten seconds at 50 frames per
second take about 0.12 MB a skeleton. All texts are escaped, because they may contain file names of unknown origin.
"""

import base64
import html
import json
import pathlib
import re
from collections.abc import Mapping

import jax
import numpy as np

from posynda_jax.geometry import camera, skeleton
from posynda_jax.visuals.pose_sequence import PoseSequence

_PARTS = pathlib.Path(__file__).parent / "viewer_page"
_ABSENT = -32768  # int16 code of NaN
MAX_ERROR_M = 1e-4  # largest change of a pose coordinate in the page


def save_page(path, sequence: PoseSequence) -> int:
  """Number of bytes written to `path`, an HTML page of the sequence.

  Poses are shown relative to their root, and `camera.solve_root` places them before the camera for the projection.
  Raises ValueError for poses too large to be in metres.
  """
  keypoints, intrinsics = (np.asarray(values, np.float32) for values in (sequence.keypoints_px, sequence.intrinsics))
  series = []
  for name, kind, colour, pose in sequence.series():
    pose = skeleton.root_centre(np.asarray(pose, np.float32))
    root, projection = map(np.asarray, project(pose, keypoints, intrinsics, sequence.confidence))
    packed = {"pose": _pack(pose), "projection": _pack(projection), "root": _pack(root)}
    series.append({"name": name, "kind": kind, "colour": colour, "shown": True, **packed})
  step = max(one["pose"]["step"] for one in series)
  if step / 2 > MAX_ERROR_M:
    raise ValueError(f"poses extend over {step * 65534:.0f} m: expected metres; divide millimetres by 1000")
  data = {
      "fps": float(sequence.fps), "joints": [name.replace("_", " ") for name in skeleton.JOINTS],
      "parents": skeleton.PARENTS, "left": skeleton.LEFT, "first_frame": int(sequence.first_frame),
      "width": float(sequence.resolution[0]), "height": float(sequence.resolution[1]),
      "valid": sequence.valid.astype(int).tolist(), "keypoints": _pack(keypoints), "series": series,
      "sigma": None if sequence.sigma_m is None else _pack(np.asarray(sequence.sigma_m)),
      "doubts": [list(doubt) for doubt in sequence.doubts],
      "pictures": [[frame, base64.b64encode(picture).decode()] for frame, picture in sequence.pictures],
  }
  facts = {
      **sequence.notes,
      "placement": "each pose stands where it reprojects best onto the keypoints (solve_root); up is the camera's up",
      "errors": "means over the 17 joints with equal weights",
      "precision": f"this page stores poses in steps of {1000 * step:.3f} mm",
  }
  as_json = json.dumps(data, allow_nan=False)
  filled = fill("page.html", {
      "title": html.escape(sequence.title),
      "notes": "\n".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in facts.items()),
      "data": as_json.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
      "script": "".join((_PARTS / name).read_text(encoding="utf-8") for name in ("draw.js", "act.js")),
  })
  return pathlib.Path(path).write_bytes(filled.encode())


@jax.jit
def project(pose, keypoints_px, intrinsics, confidence):
  """(Solved roots [T 3] in m, projections [T 17 2] in px) of root-relative poses [T 17 3]."""
  root = camera.solve_root(pose, camera.rays(keypoints_px, intrinsics), confidence)
  return root, camera.project(pose + root[:, None], intrinsics)


def _pack(values: np.ndarray) -> dict:
  """Values as little-endian int16 in base64: value = q * step + middle, where q = -32768 is NaN."""
  values = values.astype(np.float64)
  known = values[np.isfinite(values)]
  low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
  middle, step = (low + high) / 2, max(high - low, 1e-6) / 65534
  q = np.where(np.isfinite(values), np.round((values - middle) / step), _ABSENT)
  return {"values": base64.b64encode(q.astype("<i2").tobytes()).decode(), "middle": middle, "step": step}


def fill(template: str, texts: Mapping[str, str]) -> str:
  """The file `template` of `viewer_page/` with HTML `texts` in place of {{name}}.

  One pass fills all placeholders, so that no inserted text is read as a placeholder.
  """
  html_text = (_PARTS / template).read_text(encoding="utf-8")
  return re.sub(r"\{\{(\w+)\}\}", lambda place: texts[place[1]], html_text)
