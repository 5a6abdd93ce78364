"""SMPL (Loper et al. 2015) as far as pose lifting needs it: joints that are linear in the vertices, without the vertices.

A vertex is v = sum_j w_j (R_j u + s_j), u = template + B_S beta + B_P (R(theta) - I): blend shapes, then linear blend skinning.
A regressor J = sum_v r_v v commutes with both, so r is multiplied into template, blend shapes and weights once, and a frame
costs what the regressed joints cost, not 6,890 vertices. With r the identity the same function returns the vertices.
Plain NumPy, float64. No package is used: the light ones cannot read the model files, the others want much besides.
"""

import dataclasses
import pathlib

import numpy as np

from posynda_jax.data import safe_pickle

NUM_BETAS = 10
LAYOUT = (
    "an npz file of plain arrays: v_template [6890 3], shapedirs [6890 3 10 or more], posedirs [6890 3 207], weights [6890 24], "
    "J_regressor [24 6890] dense, kintree_table [2 24]"
)


@dataclasses.dataclass(frozen=True)
class Model:
  """A body model of V vertices and J joints; every parent comes before its children, the root has parent -1."""

  v_template: np.ndarray  # [V 3] m
  shapedirs: np.ndarray  # [V 3 10]
  posedirs: np.ndarray  # [V 3 9(J-1)]
  weights: np.ndarray  # [V J]
  joint_regressor: np.ndarray  # [J V]
  parents: tuple[int, ...]


def load_model(path) -> Model:
  """The body model of an npz file, or of the pkl beside it where there is no npz.

  The official pkl holds chumpy and scipy objects and is refused; README.md tells how to make the npz of it.
  Raises FileNotFoundError; ValueError that names the file and the layout it should have.
  """
  path = pathlib.Path(path)
  if not path.exists() and path.with_suffix(".pkl").exists():
    path = path.with_suffix(".pkl")
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist; expected {LAYOUT} (README.md tells how to make it)")
  try:
    data = safe_pickle.load_npz(path) if path.suffix == ".npz" else safe_pickle.load_file(path, "latin1")
  except safe_pickle.Refused as error:
    raise safe_pickle.Refused(f"{error}. Of SMPL's own pkl make {LAYOUT} (README.md tells how)") from error
  try:
    return _model(data)
  except (KeyError, TypeError, ValueError, IndexError) as error:
    what = f"no {error}" if isinstance(error, KeyError) else str(error)
    raise ValueError(f"{path} is not an SMPL model ({what}); expected {LAYOUT}") from error


def _model(data) -> Model:
  arrays = {key: np.asarray(data[key], np.float64) for key in ("v_template", "shapedirs", "posedirs", "weights", "J_regressor")}
  num_vertices, num_joints = arrays["weights"].shape
  expected = {
      "v_template": (num_vertices, 3),
      "shapedirs": (num_vertices, 3, max(NUM_BETAS, arrays["shapedirs"].shape[-1])),
      "posedirs": (num_vertices, 3, 9 * (num_joints - 1)),
      "J_regressor": (num_joints, num_vertices),
  }
  for key, shape in expected.items():
    if arrays[key].shape != shape:
      raise ValueError(f"{key} has shape {arrays[key].shape}, expected {shape}")
  parents = (-1, *(int(p) for p in np.asarray(data["kintree_table"])[0, 1:]))  # the file writes the root's as 2**32 - 1
  if len(parents) != num_joints or any(not 0 <= p < j for j, p in enumerate(parents) if j):
    raise ValueError(f"kintree_table tells parents {parents}, which are no tree of {num_joints} joints")
  shapedirs = arrays["shapedirs"][..., :NUM_BETAS]
  return Model(arrays["v_template"], shapedirs, arrays["posedirs"], arrays["weights"], arrays["J_regressor"], parents)


def load_regressor(path) -> np.ndarray:
  """`J_regressor_h36m.npy` [17 V]. Raises FileNotFoundError; ValueError that names the file."""
  regressor = np.asarray(safe_pickle.load_npy(path))
  if regressor.ndim != 2 or len(regressor) != 17 or regressor.dtype.kind != "f":
    raise ValueError(f"{path} has shape {regressor.shape}, expected (17, 6890); take the J_regressor_h36m.npy of SPIN or VIBE")
  return regressor.astype(np.float64)


def regress(model: Model, regressor: np.ndarray, poses: np.ndarray, betas: np.ndarray, trans: np.ndarray) -> np.ndarray:
  """`regressor` [N V] times the vertices, [T N 3] m, of axis angles [T 3J], shape [10] and translations [T 3] m.

  The global rotation turns about the root joint, as SMPL's does. Raises ValueError for sizes that do not belong together.
  """
  if regressor.shape[1] != len(model.v_template) or poses.shape[1] != 3 * len(model.parents):
    raise ValueError(
        f"regressor {regressor.shape} and poses {poses.shape} do not fit a model of {len(model.v_template)} vertices and "
        f"{len(model.parents)} joints: take files that belong together"
    )
  shaped = model.v_template + model.shapedirs @ betas
  rest = model.joint_regressor @ shaped  # J 3
  local = rotations(poses.reshape(len(poses), -1, 3))  # T J 3 3
  turns, ends = _chain(local, rest, model.parents)
  shifts = ends - (turns @ rest[..., None])[..., 0]  # T J 3: what a joint adds beside its turn

  share = regressor[:, None, :] * model.weights.T  # N J V: how much a vertex that follows joint j counts in output n
  offsets = np.tensordot(share, model.posedirs, 1)  # N J 3 9(J-1)
  bends = (local[:, 1:] - np.eye(3)).reshape(len(poses), -1)  # T 9(J-1)
  posed = np.tensordot(share, shaped, 1) + np.moveaxis(np.tensordot(offsets, bends, (3, 1)), -1, 0)  # T N J 3
  skinned = np.einsum("tjab,tnjb->tna", turns, posed) + np.einsum("tja,nj->tna", shifts, share.sum(-1))
  return skinned + trans[:, None] * regressor.sum(1)[:, None]


def _chain(local: np.ndarray, rest: np.ndarray, parents: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """World turns [T J 3 3] and positions [T J 3] of the joints, the root staying where it rests."""
  turns, ends = [local[:, 0]], [np.broadcast_to(rest[0], (len(local), 3))]
  for j, parent in enumerate(parents[1:], 1):
    turns.append(turns[parent] @ local[:, j])
    ends.append(ends[parent] + turns[parent] @ (rest[j] - rest[parent]))
  return np.stack(turns, 1), np.stack(ends, 1)


def rotations(axis_angles: np.ndarray) -> np.ndarray:
  """Rotation matrices [*b 3 3] of axis angles [*b 3] in radians (Rodrigues)."""
  angle = np.linalg.norm(axis_angles, axis=-1)[..., None, None]
  x, y, z = np.moveaxis(axis_angles, -1, 0)
  zero = np.zeros_like(x)
  cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(axis_angles.shape + (3,))
  # sin(a)/a and (1 - cos(a))/a^2 by sinc, which knows its limit at zero.
  return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * cross @ cross
