"""One owner for a folder: a lock that ends with its process, however the process ends."""

import os
import pathlib
import socket

import filelock


class InUse(ValueError):
  """Another process owns the folder."""


_held: dict[pathlib.Path, filelock.BaseFileLock] = {}  # a lock that is collected is released


def take(folder) -> None:
  """Takes a folder until this process ends; again in the same process it does nothing.

  The kernel holds the lock of the file `.lock`; `.owner` says which process has it. Raises InUse, which names the owner, where
  another process has the folder. A file system without locks gets a warning and no lock.
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
  except NotImplementedError:
    print(f"warning: {folder} is on a file system without locks: make sure that no second run uses it", flush=True)
  _held[folder] = lock
  owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")


def give_back(folder) -> None:
  """Releases the folder; does nothing where this process does not own it."""
  if lock := _held.pop(pathlib.Path(folder).resolve(), None):
    lock.release()
