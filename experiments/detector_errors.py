"""Fits the errors of a real detector on cam01 to cam03 of `experiments.footage`: parameters of `geometry.detector`.

    python -m experiments.detector_errors --wheel=pose2sim-0.10.49-py3-none-any.whl --json=detector.json

BlazePose's joints are compared with the images of the triangulated ones. What all joints of a view share is the
calibration's and is left out. Prints, by joint, the spread and the mean error as shares of the person's box; over
all, the correlation of errors a fifteenth of a second apart, the share of frames with exchanged sides, and how long
these last.
"""

import numpy as np
from absl import flags

from posynda_jax.geometry import triangulation
from posynda_jax.interop import qualisys
from posynda_jax.runtime.text import markdown_table

from . import common, footage, results_file

flags.adopt_module_key_flags(footage)
FITTED = footage.VIEWS[:3]
STEP = 4  # frames of 60 a second in a fifteenth of a second
SURE = 0.8  # score of a keypoint that is neither hidden nor unsure
PAIRS = {"shoulder": (0, 3), "elbow": (1, 4), "wrist": (2, 5), "hip": (6, 9), "knee": (7, 10), "ankle": (8, 11)}


def errors(found: dict, cameras: dict, size) -> tuple[dict, np.ndarray]:
  """({view: (errors [T 12 2] as shares of the box, scores [T 12])}, exchanged [views T])."""
  mended = {view: {"joints": footage.mend(found[view]["joints"], size)} for view in footage.VIEWS}
  truth, _, late = footage.triangulate(mended, cameras)
  by_view, exchanged = {}, []
  for view in FITTED:
    at = np.arange(len(truth)) + late[view]
    good = (at >= 0) & (at < len(found[view]["joints"]))
    intrinsics, outer = cameras[view]
    matrix = footage.intrinsic_matrix(intrinsics) @ outer
    image = triangulation.project(truth[good].reshape(-1, 3), matrix[None])[0].reshape(-1, 12, 2)
    seen, raw = (joints[at[good]][:, footage.LIMBS] for joints in (mended[view]["joints"], found[view]["joints"]))
    box = (image.max(1) - image.min(1)).max(-1)[:, None, None]
    error = (seen[..., :2] - image) / box
    by_view[view] = error - error.mean((0, 1)), seen[..., 2]
    exchanged.append(np.median(np.linalg.norm(raw[..., :2] - seen[..., :2], axis=-1), -1) > 1)
  return by_view, np.array([one[: min(map(len, exchanged))] for one in exchanged])


def fit(by_view: dict, exchanged: np.ndarray) -> dict:
  """The parameters: `spread` and `bias` by joint, `correlation`, `swaps` and `swap_frames`."""
  spread, bias, lagged = {}, {}, []
  for name, joints in PAIRS.items():
    rest, means = [], []
    for error, score in by_view.values():
      for joint in joints:
        mean = error[:, joint].mean(0)
        sure = score[:, joint] > SURE
        means.append(mean)
        rest.append((error[sure, joint] - error[sure, joint].mean(0)).ravel() if sure.sum() > STEP else np.zeros(0))
        centred = error[:, joint] - mean
        lagged.append([(centred[:-STEP] * centred[STEP:]).sum(), (centred**2).sum()])
    spread[name], bias[name] = float(np.concatenate(rest).std()), float(np.std(means))
  together, alone = np.sum(lagged, 0)
  runs = np.diff(np.pad(exchanged.astype(int), ((0, 0), (1, 1))), axis=1) == 1
  return {"spread": spread, "bias": bias, "correlation": float(together / alone), "swaps": float(exchanged.mean()),
          "swap_frames": float(exchanged.sum() / max(runs.sum(), 1)) / STEP, "views": list(by_view)}


def main() -> None:
  with footage.opened() as (folder, found):
    size = footage.sizes(folder)["cam01"]
    parameters = fit(*errors(found, qualisys.read_calibration(folder / "calibration" / "Calib.qca.txt"), size))
  head = ["joint", "spread, %", "mean error, %"]
  print(markdown_table(head, [
      [name, f"{100 * parameters['spread'][name]:.2f}", f"{100 * parameters['bias'][name]:.2f}"] for name in PAIRS]))
  print("correlation {correlation:.2f}; exchanged sides in {swaps:.1%} of the frames, for {swap_frames:.1f} frames of "
        "15 a second".format(**parameters))
  results_file.write(parameters)


if __name__ == "__main__":
  common.run(main)
