"""One owner for a folder, by a lock of the operating system that ends with its process."""

import errno
import os
import pathlib
import socket

import filelock

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: dict[pathlib.Path, filelock.FileLock] = {}  # filelock releases a lock that is garbage collected


class InUse(ValueError):
  """Another process owns the folder."""


def take(folder) -> None:
  """Makes this process the owner of a folder until it ends or calls `give_back`. The owner may call it again.

  The lock is on the file `.lock`; the file `.owner` names the owner. Raises InUse with that name if another process
  owns the folder. On a file system without locks it prints a warning and takes none.
  """
  folder = pathlib.Path(folder).resolve()
  if folder in _held:
    return
  lock, owner = filelock.FileLock(folder / ".lock", thread_local=False), folder / ".owner"
  try:
    lock.acquire(blocking=False)
  except filelock.Timeout:
    name = owner.read_text().strip() if owner.exists() else "another process"
    raise InUse(f"{folder} is in use by {name}: wait until it ends, stop it, or choose another --workdir") from None
  except OSError as error:
    if error.errno not in _UNSUPPORTED:
      raise
    print(f"warning: {folder} is on a file system without locks: make sure that no second run uses it", flush=True)
  owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
  _held[folder] = lock


def give_back(folder) -> None:
  """Releases the folder; does nothing if this process does not own it."""
  if lock := _held.pop(pathlib.Path(folder).resolve(), None):
    lock.release()
