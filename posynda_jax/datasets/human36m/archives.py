"""Reader of Human3.6M's official 3D: CDF files of world positions, in folders or in `Poses_D3_Positions_<subject>.tgz`.

Only `D3_Positions` is read. `D3_Positions_mono` and `_mono_universal` hold camera-frame poses; the latter are rescaled.
"""

import contextlib
import pathlib
import re
import signal
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Iterator

import numpy as np

from posynda_jax.datasets.human36m import files
from posynda_jax.datasets.licensed import Fault

CDF_SECONDS = 5.0  # to read a file, which takes a fiftieth of a second; cdflib follows counts that lie for hours
MAX_CDF_BYTES = 256 * 2**20  # the longest take has 2.4 MB
_MEMBER = re.compile(r"(?:.*/)?(S\d+)/MyPoseFeatures/D3_Positions/([^/]+)\.cdf")
_RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}


def find(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Each subject's CDF files, or its archive where it has none. Raises FileNotFoundError if no subject has either."""
  found = {}
  for subject in files.SUBJECTS:
    archive = path / f"Poses_D3_Positions_{subject}.tgz"
    cdfs = sorted(path.glob(f"{subject}/MyPoseFeatures/D3_Positions/*.cdf"))
    if cdfs or archive.exists():
      found[subject] = cdfs or [archive]
  if not found:
    raise FileNotFoundError(
        f"{path} holds none of Human3.6M's 3D positions, expected S1/MyPoseFeatures/D3_Positions/*.cdf or "
        f"Poses_D3_Positions_S1.tgz (not _mono), and the same of {', '.join(files.SUBJECTS[1:])}"
    )
  return found


def read_takes(path: pathlib.Path, subject: str) -> Iterator[tuple[str, np.ndarray]]:
  """(VideoPose3D's name of the take, world positions [t 32 3] float32 m) of a CDF file, or of a subject's archive.

  Raises Fault that names a damaged file, or an archive with a member outside it.
  """
  if path.suffix == ".cdf":
    yield _take(path.stem), _read_cdf(path, path)
    return
  try:
    with tarfile.open(path, "r:*") as archive, tempfile.TemporaryDirectory() as folder:
      for member in archive:
        if ".." in member.name.split("/") or member.name.startswith("/") or not (member.isfile() or member.isdir()):
          raise Fault(path, f"member {member.name!r} leads outside the archive", "get the archive from its owner")
        match = _MEMBER.fullmatch(member.name)
        if match is None or match[1] != subject:
          continue
        if member.size > MAX_CDF_BYTES:
          raise Fault(path, f"{member.name} has {member.size:,} bytes, expected a pose file", "fetch the archive again")
        copy = pathlib.Path(folder) / "pose.cdf"  # cdflib reads only files, and a member's name must not become a path
        copy.write_bytes(archive.extractfile(member).read())
        yield _take(match[2]), _read_cdf(copy, f"{path}: {member.name}")
  except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
    raise Fault(path, f"is not a whole archive ({error})") from error


def _take(name: str) -> str:
  action, space, number = name.partition(" ")
  return _RENAMED.get(action, action) + space + number


def _read_cdf(path: pathlib.Path, label) -> np.ndarray:
  import cdflib  # only the official archives need it

  try:
    with _at_most(CDF_SECONDS):
      pose = np.asarray(cdflib.CDF(path).varget("Pose"))
    return (pose.reshape(-1, 32, 3) / 1000).astype(np.float32)  # mm
  except Exception as error:  # cdflib may raise anything on a damaged file
    raise Fault(label, f"is not a whole D3_Positions file ({type(error).__name__}: {error})") from error


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
  """Raises TimeoutError in a body of Python that takes longer; in threads and on Windows it does nothing."""
  if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
    yield
    return

  def stop(*_):
    raise TimeoutError(f"reading took more than {seconds:g} s")

  before = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
