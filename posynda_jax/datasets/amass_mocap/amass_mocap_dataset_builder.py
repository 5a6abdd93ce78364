"""AMASS (SMPL+H motions of many laboratories) as the user downloaded it: SMPL's mesh times the Human3.6M regressor."""

import functools
import re
import zlib

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.datasets.mocap import builder, views
from posynda_jax.datasets.threedpw import smpl
from posynda_jax.geometry import skeleton

MODEL_FILES = {gender: f"smpl/SMPL_{gender.upper()}.npz" for gender in ("male", "female", "neutral")}
REGRESSOR_FILE = "smpl/J_regressor_h36m.npy"
BODY = 22  # joints that SMPL+H and SMPL share; SMPL's two hands stay at rest


TESTED = ("ACCAD/", "MPI_HDM05/mm", "CMU/02", "CMU/09", "CMU/17")  # the people on whom this package scores bases


class _TestPeople:
  """TESTED, and about a fifth of all others, the same ones on every machine."""

  def __contains__(self, subject: str) -> bool:
    return subject.startswith(TESTED) or zlib.crc32(subject.encode()) % 5 == 0


class AmassMocap(builder.MotionBuilder):
  """All motions of an AMASS folder. `subject` is <dataset>/<subject>; `_TestPeople` are the test split."""

  name = "amass_mocap"
  ARCHIVE = "amass"
  FILES = "<dataset>/<subject>/<name>_poses.npz in the form SMPL+H"
  SUFFIX = "_poses.npz"
  PATTERN = re.compile(r"(?P<sequence>(?P<subject>.+)/(?P<action>[^/]+))_poses\.npz", re.I)
  SKELETON = None
  TEST = "subject", _TestPeople()
  HOMEPAGE = "https://amass.is.tue.mpg.de"
  LICENSE = "AMASS and SMPL terms: non-commercial research only, no redistribution."
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      f"Put amass.zip, or the folder amass/ with {FILES}, into manual_dir, and beside it {REGRESSOR_FILE} and, of the "
      f"genders that occur, {', '.join(MODEL_FILES.values())}."
  )

  def read(self, archive, take):
    label, folder = archive.label(take.motion), archive.path.parent
    found = safe_pickle.load_npz(label, archive.read(take.motion))
    try:
      names = ("poses", "trans", "betas", "mocap_framerate")
      poses, trans, betas, fps = (np.asarray(found[name], np.float64) for name in names)
      gender = np.asarray(found["gender"]).item()
    except KeyError as error:
      raise ValueError(f"{label} has no {error}: expected a motion of AMASS in the form SMPL+H") from error
    gender = gender.decode() if isinstance(gender, bytes) else gender
    if gender not in MODEL_FILES:
      raise ValueError(f"{label} has the gender {gender!r}, expected one of {', '.join(MODEL_FILES)}")
    if poses.ndim != 2 or poses.shape[1] < 3 * BODY or trans.shape != (len(poses), 3) or fps.size != 1:
      raise ValueError(f"{label} has poses {poses.shape} and trans {trans.shape}, expected [T 156] and [T 3]")
    model, regressor = _load_model(folder / MODEL_FILES[gender]), _load_regressor(folder / REGRESSOR_FILE)
    stride = views.stride_to(float(fps))
    poses = np.pad(poses[::stride, : 3 * BODY], ((0, 0), (0, 3 * (24 - BODY))))
    joints = smpl.regress(model, regressor, poses, betas[: smpl.NUM_BETAS], trans[::stride])
    joints = skeleton.to_h36m(joints, "spin17")[..., [0, 2, 1]] * [1, 1, -1]  # from Z up to Y up
    return joints, float(fps) / stride


_load_model, _load_regressor = functools.cache(smpl.load_model), functools.cache(smpl.load_regressor)
