"""Archives in a download folder: `<name>.zip`, or the folder that it unpacks to.

Nothing is unpacked to disk. A member's name starts below the archive's own folder: "02/02_01.amc", not
"cmu/02/02_01.amc".
"""

import contextlib
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from posynda_jax.data import safe_pickle

MAX_MEMBER_BYTES = 256 * 2**20  # a true motion file has a few MB


class Archive(NamedTuple):
  """An open archive: its path, its member names in sorted order, and `read(member) -> bytes`."""

  path: pathlib.Path
  members: tuple[str, ...]
  read: Callable[[str], bytes]

  def label(self, member: str) -> str:
    """The name of a member in error messages."""
    return f"{self.path.name}: {member}"


@contextlib.contextmanager
def open_archive(manual_dir, name: str, folder_name: str | None = None) -> Iterator[Archive]:
  """The archive `name` in `manual_dir`: the zip file if it exists, else the folder. `folder_name` is the folder that
  the zip file unpacks to, where that is not `name`.

  Raises FileNotFoundError if both are missing, ValueError for a damaged zip or a member outside the archive.
  """
  folder_name = folder_name or name
  zip_path, folder = (pathlib.Path(manual_dir).expanduser() / place for place in (f"{name}.zip", folder_name))
  if zip_path.is_file():
    try:
      file = zipfile.ZipFile(zip_path)
    except (*safe_pickle.ZIP_ERRORS, ValueError) as error:
      raise ValueError(f"{zip_path}: not a whole zip archive ({error}); fetch it again") from error
    with file:
      yield _zip_archive(zip_path, file, folder_name)
  elif folder.is_dir():
    yield _folder_archive(folder)
  else:
    raise FileNotFoundError(
        f"expected {zip_path} or the folder {folder}, found neither; put it there (see the dataset's README.md)"
    )


def _zip_archive(path: pathlib.Path, file: zipfile.ZipFile, name: str) -> Archive:
  for member in file.namelist():
    parts = member.split("/")
    if ".." in parts or member.startswith("/") or "\\" in member or ":" in parts[0]:
      raise ValueError(f"{path}: member {member!r} leads outside the archive, so it is refused; fetch it again")
  prefix = f"{name}/"
  members = {m.removeprefix(prefix): m for m in file.namelist() if m.startswith(prefix) and not m.endswith("/")}
  if not members:
    raise ValueError(f"{path}: holds no file below {prefix}; expected the archive that unpacks to the folder {name}")

  def read(member: str) -> bytes:
    info = file.getinfo(members[member])
    if info.file_size > MAX_MEMBER_BYTES:
      raise ValueError(f"{path}: {member} has {info.file_size} bytes, expected a motion file; fetch the archive again")
    try:
      return file.read(info)
    except (*safe_pickle.ZIP_ERRORS, MemoryError) as error:  # MemoryError: a packed size that lies
      raise ValueError(f"{path}: {member} is damaged ({error}); fetch the archive again") from error

  return Archive(path, tuple(sorted(members)), read)


def _folder_archive(folder: pathlib.Path) -> Archive:
  root = folder.resolve()
  paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
  if not paths:
    raise ValueError(f"{folder}: the folder is empty; unpack the archive there (see the dataset's README.md)")
  for member, path in paths.items():
    if not path.resolve().is_relative_to(root):
      raise ValueError(f"{folder}: {member} links to a file outside the folder, which is refused; remove the link")
  return Archive(folder, tuple(sorted(paths)), lambda member: paths[member].read_bytes())
