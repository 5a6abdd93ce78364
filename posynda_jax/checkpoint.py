"""The only orbax: training states by step, and bases and adapters as files other runs refer to by path and digest."""

import hashlib
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree


class Checkpoints:
  """The steps of one run under `folder`: the last `keep` are kept, each whole or not there at all."""

  def __init__(self, folder, keep: int = 2):
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    self._manager = ocp.CheckpointManager(pathlib.Path(folder).absolute(), options=options)

  def save(self, step: int, state: PyTree) -> None:
    """Writes the state of a step (again under the same number it is left alone)."""
    if step not in self._manager.all_steps():
      self._manager.save(step, args=ocp.args.StandardSave(state))

  def latest(self) -> int | None:
    """The last whole step, or None."""
    return self._manager.latest_step()

  def restore(self, like: PyTree, step: int | None = None) -> PyTree:
    """The state of a step (default the last), checked leaf by leaf against the shapes of `like`."""
    step = self.latest() if step is None else step
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

  def close(self) -> None:
    """Waits for what is still being written."""
    self._manager.wait_until_finished()
    self._manager.close()


def save_tree(path, tree: PyTree) -> None:
  """Writes a tree (a base, an adapter) to the folder `path`, replacing what was there once the new one is whole."""
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(pathlib.Path(path).absolute(), tree, force=True)


def load_tree(path, like: PyTree) -> PyTree:
  """The tree at `path`, which must have the leaves and shapes of `like`.

  Raises FileNotFoundError where nothing is there and ValueError that names the leaves that do not fit.
  """
  path = pathlib.Path(path).absolute()
  if not path.exists():
    raise FileNotFoundError(f"no saved parameters at {path}: give a run folder that finished, or train one first")
  with ocp.StandardCheckpointer() as checkpointer:
    metadata = checkpointer.metadata(path)
    found = _shapes(getattr(metadata, "item_metadata", metadata))
    wanted = _shapes(like)
    wrong = [f"{k}: file {found.get(k)}, model {wanted.get(k)}" for k in sorted(set(found) | set(wanted)) if found.get(k) != wanted.get(k)]
    if wrong:
      more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
      raise ValueError(f"parameters at {path} do not fit this model: {'; '.join(wrong[:4])}{more}")
    return checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, like))


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
  tree = tree.tree if hasattr(tree, "tree") else tree
  return {"/".join(map(str, path)): tuple(leaf.shape) for path, leaf in flatten_dict(dict(tree)).items()}


def digest(tree: PyTree) -> str:
  """Which parameters these are: a hash of names, shapes and values."""
  hasher = hashlib.sha256()
  for path, leaf in sorted(flatten_dict(dict(tree)).items()):
    leaf = np.asarray(leaf)
    hasher.update(f"{'/'.join(map(str, path))}{leaf.shape}{leaf.dtype}".encode())
    hasher.update(leaf.tobytes())
  return hasher.hexdigest()[:16]
