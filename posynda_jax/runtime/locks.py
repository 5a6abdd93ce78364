"""One owner for a folder: a lock that ends with its process, however that ends."""

import errno
import fcntl
import os
import pathlib
import socket
from typing import IO

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
class InUse(ValueError):
  """Another process has the folder."""


_held: dict[pathlib.Path, IO] = {}  # a file that is closed, or collected, gives its lock back


def take(folder) -> None:
  """Takes a folder until this process ends; again in the same process it is a no-op.

  The kernel holds the lock, not the file `.lock`, which only says whose it is. Raises InUse that names the owner's process
  and host where another process has it. A file system that knows no locks is used without one, which is said.
  """
  path = pathlib.Path(folder).resolve() / ".lock"
  if path in _held:
    return
  file = path.open("a+")
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    owner = file.read().strip() or "another process"
    raise InUse(f"{folder} is in use by {owner}: wait until it ends, stop it, or choose another --workdir") from None
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    print(f"{folder} is on a file system without locks: see to it that no second run uses it", flush=True)
  file.truncate(0)
  file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
  file.flush()
  _held[path] = file


def give_back(folder) -> None:
  """Lets others take the folder; a no-op where this process has not taken it."""
  if file := _held.pop(pathlib.Path(folder).resolve() / ".lock", None):
    file.close()
