"""The only orbax: training states by step, and bases and adapters as files other runs refer to by path and digest."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from posynda_jax.runtime import parallel, processes, runs

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)  # what a disk may say, somewhere in a long text


def _orbax():
  """The library, imported at first use: it takes a second, which lifting does not need."""
  import orbax.checkpoint

  return orbax.checkpoint


class Checkpoints:
  """The steps of one training under `folder`: the last `keep` are kept, each whole or not there at all.

  A step holds the state, where the data feed was, `identity` (what must be the same for the training to go on: JSON), the seconds
  trained so far and a digest of the state, by which damage shows. It is written while the training goes on.
  """

  def __init__(self, folder, keep: int = 2, identity: dict[str, Any] | None = None):
    if keep < 1:
      raise ValueError(f"{keep} checkpoints to keep are none to resume from: keep 1 or more")
    self.folder = pathlib.Path(folder).absolute()
    self._identity = json.loads(json.dumps(identity or {}))
    self._before, self._opened = 0.0, time.perf_counter()
    ocp = _orbax()
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True)
    self._manager = ocp.CheckpointManager(self.folder, options=options)

  @property
  def seconds(self) -> float:
    """Since the training began: those up to the restored step, and those since this object was made."""
    return self._before + time.perf_counter() - self._opened

  def save(self, step: int, state: PyTree, feed: dict[str, Any] | None = None) -> None:
    """Takes a copy of the state and writes it in the background (again under the same number it is left alone).

    Raises OSError for this write or the one before it, where the disk refuses.
    """
    if step in self._manager.all_steps():
      return
    note = {"feed": feed, "identity": self._identity, "seconds": self.seconds, "digest": _state_digest(state)}
    note = {**note, "seal": _seal(note)}
    args = _orbax().args
    with self._writing():
      state = args.StandardSave(parallel.everywhere(state))
      self._manager.save(step, args=args.Composite(state=state, run=args.JsonSave(note)))

  def latest(self) -> int | None:
    """The last whole step, or None."""
    self.wait()
    return self._manager.latest_step()

  def restore(self, like: PyTree) -> tuple[PyTree, dict[str, Any] | None] | None:
    """(state, feed) of the last step that is whole, as host arrays of the shapes of `like`; None where nothing was saved.

    Damaged steps after it are renamed to `STEP.damaged`, which is said. Raises ValueError, naming what differs, where the step
    belongs to another identity, and where every step is damaged.
    """
    damaged = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        state, note = self._read(step, like)
      except Exception as error:  # a flipped or missing byte shows in as many ways as Orbax has readers
        damaged[step] = _first_line(error)
        continue
      runs.check_same(self.folder, note["identity"], self._identity)
      if damaged:
        self._set_aside(damaged)
        print(f"Damaged checkpoint of step {_listed(damaged)} in {self.folder}: going on from step {step}", flush=True)
      self._before, self._opened = note["seconds"], time.perf_counter()
      return state, note["feed"]
    if damaged:
      raise ValueError(
          f"no checkpoint in {self.folder} can be read: step {_listed(damaged)}. Put back a copy, or remove the folder to "
          "train from the start"
      )
    return None

  def wait(self) -> None:
    """Waits for what is still being written. Raises OSError where the disk refused it."""
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for what is still being written, and lets go of the folder."""
    self.wait()
    self._manager.close()

  def _read(self, step: int, like: PyTree) -> tuple[PyTree | None, dict[str, Any]]:
    """(state, note) of a step; no state where it belongs to another identity, as it may not fit then."""
    args = _orbax().args
    note = self._manager.restore(step, args=args.Composite(run=args.JsonRestore())).run
    if note.pop("seal") != _seal(note):
      raise ValueError("its JSON is not what was saved")
    if note["identity"] != self._identity:
      return None, note
    like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    state = self._manager.restore(step, args=args.Composite(state=args.StandardRestore(like))).state
    if _state_digest(state) != note["digest"]:
      raise ValueError("the values are not those that were saved")
    return state, note

  def _set_aside(self, steps: Iterable[int]) -> None:
    if processes.is_main():
      for step in steps:
        aside = self.folder / f"{step}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        (self.folder / str(step)).rename(aside)
    _orbax().multihost.sync_global_processes("set_aside")
    self._manager.reload()

  @contextlib.contextmanager
  def _writing(self):
    """What the disk refuses is an OSError here, whichever of Orbax's threads and libraries met it."""
    try:
      yield
    except Exception as error:
      reasons = (os.strerror(number) for number in _REFUSALS)
      reason = next((text for text in reasons if text in str(error)), _first_line(error))
      raise OSError(f"a checkpoint in {self.folder} could not be written ({reason}); those before it are kept") from error


def _seal(note: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:16]


def _first_line(error: Exception) -> str:
  return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _listed(damaged: dict[int, str]) -> str:
  return "; ".join(f"{step} ({reason})" for step, reason in damaged.items())


def save_tree(path, tree: PyTree) -> None:
  """Writes a tree (a base, an adapter) to the folder `path`, replacing what was there once the new one is whole."""
  path = pathlib.Path(path).absolute()
  if processes.is_main():
    for leftover in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):  # of a process that was killed here
      shutil.rmtree(leftover, ignore_errors=True)
  with _orbax().StandardCheckpointer() as checkpointer:
    checkpointer.save(path, parallel.everywhere(tree), force=True)


def load_tree(path, like: PyTree) -> PyTree:
  """The tree at `path`, which must have the leaves and shapes of `like`.

  Raises FileNotFoundError where nothing is there and ValueError that names the leaves that do not fit.
  """
  path = pathlib.Path(path).absolute()
  if not path.exists():
    raise FileNotFoundError(f"no saved parameters at {path}: give a run folder that finished, or train one first")
  with _orbax().StandardCheckpointer() as checkpointer:
    metadata = checkpointer.metadata(path)
    found = _shapes(getattr(metadata, "item_metadata", metadata))
    wanted = _shapes(like)
    names = [name for name in sorted(set(found) | set(wanted)) if found.get(name) != wanted.get(name)]
    wrong = [f"{name}: file {found.get(name)}, model {wanted.get(name)}" for name in names]
    if wrong:
      more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
      raise ValueError(f"parameters at {path} do not fit this model: {'; '.join(wrong[:4])}{more}")
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return checkpointer.restore(path, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like))


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
  tree = tree.tree if hasattr(tree, "tree") else tree
  return {"/".join(map(str, path)): tuple(leaf.shape) for path, leaf in flatten_dict(dict(tree)).items()}


def digest(tree: PyTree) -> str:
  """Which parameters these are: a hash of names, shapes and values."""
  return _digest(("/".join(map(str, path)), leaf) for path, leaf in sorted(flatten_dict(dict(tree)).items()))


def _state_digest(state: PyTree) -> str:
  return _digest((jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state))


def _digest(leaves: Iterable[tuple[str, Any]]) -> str:
  hasher = hashlib.sha256()
  for name, leaf in leaves:
    leaf = np.ascontiguousarray(leaf)
    hasher.update(f"{name}{leaf.shape}{leaf.dtype}".encode())
    hasher.update(leaf.reshape(-1).view(np.uint8))
  return hasher.hexdigest()[:16]


def describe_data(sources: Mapping[str, Any]) -> dict[str, dict]:
  """Which data a training reads: for each source (a data.clips.ClipSource) how many clips, and a hash of its arrays."""
  return {
      name: {
          "clips": len(source),
          "digest": digest({str(i): track.arrays for i, track in enumerate(source.tracks)}),
      }
      for name, source in sources.items()
  }
