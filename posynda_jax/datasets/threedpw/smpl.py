"""SMPL (Loper et al. 2015) for pose lifting: joints that are linear in the vertices, without computing the vertices.

A vertex is v = sum_j w_j (R_j u + s_j), u = template + B_S beta + B_P (R(theta) - I): blend shapes, then linear blend
skinning. A regressor J = sum_v r_v v commutes with both, so template, blend shapes and weights are multiplied by r
once, and the cost of a frame depends on the number of regressed joints only. With r the identity the function returns
the vertices.
"""

import pathlib
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from posynda_jax.data import safe_pickle

NUM_BETAS = 10
LAYOUT = (
    "an npz file of plain arrays: v_template [6890 3], shapedirs [6890 3 10 or more], posedirs [6890 3 207], "
    "weights [6890 24], J_regressor [24 6890] dense, kintree_table [2 24] (see the dataset's README.md)"
)


class Model(NamedTuple):
  """A body model of V vertices and J joints; parents come before their children, the root has parent -1."""

  v_template: np.ndarray  # [V 3] m
  shapedirs: np.ndarray  # [V 3 10]
  posedirs: np.ndarray  # [V 3 9(J-1)]
  weights: np.ndarray  # [V J]
  J_regressor: np.ndarray  # [J V]
  parents: tuple[int, ...]


def load_model(path) -> Model:
  """The body model of an npz file. Raises FileNotFoundError; ValueError. Both name the file and the expected layout."""
  if not pathlib.Path(path).exists():
    raise FileNotFoundError(f"{path} does not exist; expected {LAYOUT}")
  try:
    return _model(safe_pickle.load_npz(path))
  except (KeyError, TypeError, ValueError, IndexError) as error:
    what = f"no {error}" if isinstance(error, KeyError) else str(error)
    raise ValueError(f"{path} is not an SMPL model ({what}); expected {LAYOUT}") from error


def _model(data) -> Model:
  names = ("v_template", "shapedirs", "posedirs", "weights", "J_regressor")
  arrays = {name: np.asarray(data[name], np.float64) for name in names}
  num_vertices, num_joints = arrays["weights"].shape
  arrays["shapedirs"] = arrays["shapedirs"][..., :NUM_BETAS]
  expected = {
      "v_template": (num_vertices, 3),
      "shapedirs": (num_vertices, 3, NUM_BETAS),
      "posedirs": (num_vertices, 3, 9 * (num_joints - 1)),
      "J_regressor": (num_joints, num_vertices),
  }
  for name, shape in expected.items():
    if arrays[name].shape != shape:
      raise ValueError(f"{name} has shape {arrays[name].shape}, expected {shape}")
  parents = (-1, *(int(p) for p in np.asarray(data["kintree_table"])[0, 1:]))  # the file has 2**32 - 1 for the root
  if len(parents) != num_joints or any(not 0 <= p < j for j, p in enumerate(parents) if j):
    raise ValueError(f"kintree_table has parents {parents}, which are no tree of {num_joints} joints")
  return Model(**arrays, parents=parents)


def load_regressor(path) -> np.ndarray:
  """`J_regressor_h36m.npy` [17 V]. Raises FileNotFoundError; ValueError that names the file."""
  regressor = np.asarray(safe_pickle.load_npy(path))
  if regressor.ndim != 2 or len(regressor) != 17 or regressor.dtype.kind != "f":
    shape = f"{path} has shape {regressor.shape}, expected (17, 6890)"
    raise ValueError(f"{shape}; take the J_regressor_h36m.npy of SPIN or VIBE")
  return regressor.astype(np.float64)


def regress(model: Model, regressor: np.ndarray, poses: np.ndarray, betas: np.ndarray, trans: np.ndarray) -> np.ndarray:
  """`regressor` [N V] times the vertices, [T N 3] m, of axis angles [T 3J], shape [10] and translations [T 3] m.

  The global rotation is about the root joint, as in SMPL. Raises ValueError for sizes that do not belong together.
  """
  if regressor.shape[1] != len(model.v_template) or poses.shape[1] != 3 * len(model.parents):
    sizes = f"a model of {len(model.v_template)} vertices and {len(model.parents)} joints"
    raise ValueError(f"regressor {regressor.shape} and poses {poses.shape} do not fit {sizes}")
  shaped = model.v_template + model.shapedirs @ betas
  rest = model.J_regressor @ shaped  # J 3
  local = Rotation.from_rotvec(poses.reshape(len(poses), -1, 3)).as_matrix()  # T J 3 3
  rotations, positions = _chain(local, rest, model.parents)
  shifts = positions - (rotations @ rest[..., None])[..., 0]  # T J 3

  share = regressor[:, None, :] * model.weights.T  # N J V: weight of a vertex that follows joint j in output n
  offsets = np.tensordot(share, model.posedirs, 1)  # N J 3 9(J-1)
  bends = (local[:, 1:] - np.eye(3)).reshape(len(poses), -1)  # T 9(J-1)
  posed = np.tensordot(share, shaped, 1) + np.moveaxis(np.tensordot(offsets, bends, (3, 1)), -1, 0)  # T N J 3
  skinned = np.einsum("tjab,tnjb->tna", rotations, posed) + np.einsum("tja,nj->tna", shifts, share.sum(-1))
  return skinned + trans[:, None] * regressor.sum(1)[:, None]


def _chain(local: np.ndarray, rest: np.ndarray, parents: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """World rotations [T J 3 3] and positions [T J 3] of the joints; the root keeps its rest position."""
  rotations, positions = [local[:, 0]], [np.broadcast_to(rest[0], (len(local), 3))]
  for j, parent in enumerate(parents[1:], 1):
    rotations.append(rotations[parent] @ local[:, j])
    positions.append(positions[parent] + rotations[parent] @ (rest[j] - rest[parent]))
  return np.stack(rotations, 1), np.stack(positions, 1)
