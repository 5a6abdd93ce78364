"""The only Orbax: the steps of a training, and bases and adapters as folders that other runs identify by digest."""

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
from jaxtyping import PyTree

from posynda_jax.runtime import parallel, processes, runs

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)  # Orbax has them as text only


def _orbax():
  """Orbax, imported at its first use, because the import takes a second and lifting does not need it."""
  import orbax.checkpoint

  return orbax.checkpoint


class Checkpoints:
  """The last `keep` steps of one training under `folder`. A step that was not written completely does not count.

  A step holds the state, the state of the data feed, `identity` (JSON that must not change between starts), the seconds
  of training so far, and a digest of the state that detects damage. A thread writes it during the next steps.
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
    """Seconds of training: those of the restored step, and those since this object was made."""
    return self._before + time.perf_counter() - self._opened

  def save(self, step: int, state: PyTree, feed: dict[str, Any] | None = None) -> None:
    """Copies the state and writes it in the background. Does nothing if the step is saved already.

    Raises OSError if this write or the one before it fails.
    """
    if step in self._manager.all_steps():
      return
    note = {"feed": feed, "identity": self._identity, "seconds": self.seconds, "digest": digest(state)}
    note["seal"] = _seal(note)
    args = _orbax().args
    with self._writing():
      state = args.StandardSave(parallel.everywhere(state))
      self._manager.save(step, args=args.Composite(state=state, run=args.JsonSave(note)))

  def latest(self) -> int | None:
    """The last step, or None."""
    self.wait()
    return self._manager.latest_step()

  def restore(self, like: PyTree) -> tuple[PyTree, dict[str, Any] | None] | None:
    """(state, feed state) of the last undamaged step, as host arrays of the shapes of `like`; None if none was saved.

    Renames damaged later steps to `STEP.damaged` and prints a line. Raises ValueError if the identity differs, naming
    the differences, and if every step is damaged.
    """
    damaged = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        state, note = self._read(step, like)
      except Exception as error:  # Orbax's readers raise many types for a damaged file
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
          f"no checkpoint in {self.folder} can be read: step {_listed(damaged)}. Put back a copy, or remove the folder "
          "to train from the start"
      )
    return None

  def wait(self) -> None:
    """Waits until all steps are written. Raises OSError if a write failed."""
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits until all steps are written, and releases the folder."""
    self.wait()
    self._manager.close()

  def _read(self, step: int, like: PyTree) -> tuple[PyTree | None, dict[str, Any]]:
    """(state, note) of a step. The state is None if the identity differs, because it may not fit `like` then."""
    args = _orbax().args
    note = self._manager.restore(step, args=args.Composite(run=args.JsonRestore())).run
    if note.pop("seal") != _seal(note):
      raise ValueError("its JSON is not what was saved")
    if note["identity"] != self._identity:
      return None, note
    like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    state = self._manager.restore(step, args=args.Composite(state=args.StandardRestore(like))).state
    if digest(state) != note["digest"]:
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
    """Turns the errors of Orbax's threads and libraries into OSError."""
    try:
      yield
    except Exception as error:
      reasons = (os.strerror(number) for number in _REFUSALS)
      reason = next((text for text in reasons if text in str(error)), _first_line(error))
      raise OSError(
          f"a checkpoint in {self.folder} could not be written ({reason}); those before it are kept"
      ) from error


def _seal(note: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:16]


def _first_line(error: Exception) -> str:
  return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _listed(damaged: dict[int, str]) -> str:
  return "; ".join(f"{step} ({reason})" for step, reason in damaged.items())


def save_tree(path, tree: PyTree) -> None:
  """Writes a tree (a base, an adapter) to the folder `path`. An older tree is replaced once the new one is complete."""
  path = pathlib.Path(path).absolute()
  if processes.is_main():
    for leftover in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):  # of a killed process
      shutil.rmtree(leftover, ignore_errors=True)
  with _orbax().StandardCheckpointer() as checkpointer:
    checkpointer.save(path, parallel.everywhere(tree), force=True)


def load_tree(path, like: PyTree) -> PyTree:
  """The tree at `path`, which must have the leaves and shapes of `like`.

  Raises FileNotFoundError if nothing is there, and ValueError that names the leaves that do not fit.
  """
  path = pathlib.Path(path).absolute()
  if not path.exists():
    raise FileNotFoundError(f"no saved parameters at {path}: give a run folder that finished, or train one first")
  with _orbax().StandardCheckpointer() as checkpointer:
    found, wanted = (
        {name: tuple(leaf.shape) for name, leaf in _leaves(tree)}
        for tree in (checkpointer.metadata(path).item_metadata, like)
    )
    names = [name for name in sorted(found | wanted) if found.get(name) != wanted.get(name)]
    if names:
      wrong = "; ".join(f"{name}: file {found.get(name)}, model {wanted.get(name)}" for name in names[:4])
      more = f" and {len(names) - 4} more" if len(names) > 4 else ""
      raise ValueError(f"parameters at {path} do not fit this model: {wrong}{more}")
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), like)
    return checkpointer.restore(path, like)


def _leaves(tree: PyTree) -> list[tuple[str, Any]]:
  """The leaves of a tree with their paths, such as `params/head/kernel`."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def digest(tree: PyTree) -> str:
  """A hash of the names, shapes and values of a tree's arrays, by which runs identify parameters."""
  hasher = hashlib.sha256()
  for name, leaf in _leaves(tree):
    leaf = np.ascontiguousarray(leaf)
    hasher.update(f"{name}{leaf.shape}{leaf.dtype}".encode())
    hasher.update(leaf.reshape(-1).view(np.uint8))
  return hasher.hexdigest()[:16]


def describe_data(sources: Mapping[str, Any]) -> dict[str, dict]:
  """The number of clips and a hash of the arrays of each source, which has `tracks` (data.clips.ClipSource)."""
  return {
      name: {"clips": len(it), "digest": digest([track.arrays for track in it.tracks])} for name, it in sources.items()
  }
