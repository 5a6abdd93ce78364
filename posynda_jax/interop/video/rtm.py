"""rtmlib (Apache-2.0) as detector, where the user has installed it: YOLOX finds people, RTMPose their 17 COCO joints.

    pip install rtmlib
    lift --video=walk.mp4 --detector=rtmlib              # files that rtmlib downloads, of its mode "balanced"
    lift --video=walk.mp4 --detector=rtmlib:performance
    lift --video=walk.mp4 --detector=rtmlib:FOLDER       # yolox*.onnx and rtmpose*.onnx of yours
"""

import pathlib

import numpy as np

NAME = "rtmlib"
MODES = ("lightweight", "balanced", "performance")
INSTALL = "--detector=rtmlib needs rtmlib, which cannot be imported ({}): pip install rtmlib"


class RtmPose:
  """The two networks. `where`: one of MODES, or a folder with both ONNX files.

  Raises ValueError where rtmlib is not installed, or its files are not there and cannot be downloaded.
  """

  layout = "coco17"

  def __init__(self, where: str = "balanced"):
    try:
      import rtmlib
    except ImportError as error:
      raise ValueError(INSTALL.format(error)) from error
    settings = {"mode": where} if where in MODES else _own_files(pathlib.Path(where).expanduser())
    try:
      body = rtmlib.Body(**settings)
    except Exception as error:  # rtmlib and onnxruntime raise what their downloads and parsers do
      what = " ".join(str(error).split())[:200]
      raise ValueError(
          f"rtmlib cannot load its networks ({what}): give --detector=rtmlib:FOLDER with {_wanted()}") from error
    self._find, self._locate = body.det_model, body.pose_model

  def __call__(self, image: np.ndarray) -> np.ndarray:
    """Joints [n 17 3] of everybody in an image [h w 3] of uint8, RGB: px and score."""
    turned = np.ascontiguousarray(image[..., ::-1])  # rtmlib's images are BGR
    boxes = self._find(turned)
    if not len(boxes):  # rtmlib would take the whole image for a person
      return np.zeros((0, 17, 3))
    points, scores = self._locate(turned, bboxes=boxes)
    return np.concatenate([points, scores[..., None]], -1)


def _wanted() -> str:
  return "one yolox*.onnx and one rtmpose*.onnx"


def _own_files(folder: pathlib.Path) -> dict:
  """Settings of `rtmlib.Body` for the ONNX files of a folder. Raises ValueError."""
  settings = {}
  for part, pattern in (("det", "yolox*.onnx"), ("pose", "rtmpose*.onnx")):
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
      has = ", ".join(path.name for path in found) or f"no {pattern}"
      raise ValueError(f"{folder} has {has}, expected {_wanted()}, or one of rtmlib's modes: {', '.join(MODES)}")
    settings |= {part: str(found[0]), f"{part}_input_size": _input_size(found[0])}
  return settings


def _input_size(path: pathlib.Path) -> tuple[int, int]:
  """Width and height of a network's input. Raises ValueError."""
  import onnxruntime

  try:
    shape = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs()[0].shape
  except Exception as error:  # onnxruntime's errors have no common base
    what = " ".join(str(error).split())[:200]
    raise ValueError(f"{path} is no ONNX file that can be run ({what})") from error
  if len(shape) != 4 or not all(isinstance(size, int) for size in shape[2:]):
    raise ValueError(f"{path} takes an input of shape {shape}, expected (images, 3, height, width) with fixed sizes")
  return shape[3], shape[2]
