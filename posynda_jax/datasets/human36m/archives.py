"""Human3.6M's official 3D: CDF files of positions in the room, in folders or in the archives `Poses_D3_Positions_<subject>.tgz`.

Only `D3_Positions` serves: `D3_Positions_mono` and `_mono_universal` are in cameras' frames, the latter with a rescaled body.
"""

import pathlib
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator

import numpy as np

from posynda_jax.datasets.human36m import files

MAX_CDF_BYTES = 256 * 2**20  # the longest take has 2.4 MB
_MEMBER = re.compile(r"(?:.*/)?(S\d+)/MyPoseFeatures/D3_Positions/([^/]+)\.cdf")
_RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}
_EXPECTED = "S1/MyPoseFeatures/D3_Positions/*.cdf or Poses_D3_Positions_S1.tgz (not _mono), likewise S5, S6, S7, S8, S9, S11"


def find(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Each subject's CDF files, or else its archive. Raises FileNotFoundError where there is nothing of any subject."""
  found = {}
  for subject in files.SUBJECTS:
    cdfs = sorted(path.glob(f"{subject}/MyPoseFeatures/D3_Positions/*.cdf"))
    archive = path / f"Poses_D3_Positions_{subject}.tgz"
    if cdfs or archive.exists():
      found[subject] = cdfs or [archive]
  if not found:
    raise FileNotFoundError(f"{path} holds none of Human3.6M's 3D positions, expected {_EXPECTED}")
  return found


def read_takes(path: pathlib.Path, subject: str) -> Iterator[tuple[str, np.ndarray]]:
  """(take under VideoPose3D's name, world positions [t 32 3] float32 m) of a CDF file, or of each of the subject's in an archive.

  Raises ValueError that names a damaged file, or an archive whose members lead outside it.
  """
  if path.suffix == ".cdf":
    yield _take(path.stem), _read_cdf(path, str(path))
    return
  try:
    with tarfile.open(path, "r:*") as archive, tempfile.TemporaryDirectory() as folder:
      for member in archive:
        _refuse_escape(path, member)
        match = _MEMBER.fullmatch(member.name)
        if match is None or match[1] != subject:
          continue
        if member.size > MAX_CDF_BYTES:
          raise ValueError(f"{path}: {member.name} has {member.size:,} bytes, expected a pose file; fetch the archive again")
        copy = pathlib.Path(folder) / "pose.cdf"  # cdflib reads files only; no member's name becomes a path
        copy.write_bytes(archive.extractfile(member).read())
        yield _take(match[2]), _read_cdf(copy, f"{path}: {member.name}")
  except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
    raise ValueError(f"{path} is not a whole archive ({error}): fetch it again") from error


def _refuse_escape(path: pathlib.Path, member: tarfile.TarInfo) -> None:
  parts = member.name.split("/")
  if ".." in parts or member.name.startswith("/") or not (member.isfile() or member.isdir()):
    raise ValueError(f"{path}: member {member.name!r} leads outside the archive, which is refused; get it from its owner")


def _take(name: str) -> str:
  action, space, number = name.partition(" ")
  return _RENAMED.get(action, action) + space + number


def _read_cdf(path: pathlib.Path, label: str) -> np.ndarray:
  import cdflib  # only the official archives need it

  try:
    pose = np.asarray(cdflib.CDF(path).varget("Pose"))
    return (pose.reshape(-1, 32, 3) / 1000).astype(np.float32)  # mm
  except Exception as error:  # the reader trusts its file and fails in any way on a damaged one
    raise ValueError(f"{label} is not a whole D3_Positions file ({type(error).__name__}: {error}): fetch it again") from error
