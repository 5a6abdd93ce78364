"""SMPL's laws: regressed joints equal those of a mesh that is skinned vertex by vertex, and other files are refused."""

import numpy as np
import pytest
import scipy.sparse
from scipy.spatial.transform import Rotation

from posynda_jax.datasets.threedpw import joints, smpl
from posynda_jax.geometry import skeleton
from tests.datasets import dummy_threedpw as dummy_data

RNG = np.random.default_rng(0)
BETAS = RNG.normal(size=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("manual")
  dummy_data.write_smpl(folder)
  return folder / "smpl"


@pytest.fixture(scope="module")
def model(folder):
  return smpl.load_model(folder / "SMPL_FEMALE.npz")


@pytest.fixture(scope="module")
def regressor(folder):
  return smpl.load_regressor(folder / "J_regressor_h36m.npy")


def skin(model: smpl.Model, pose: np.ndarray, betas: np.ndarray, trans: np.ndarray) -> np.ndarray:
  """Vertices [V 3] of one frame as the paper writes them: blend shapes, then a 4x4 matrix for each vertex."""
  shaped = model.v_template + np.einsum("vcb,b->vc", model.shapedirs, betas)
  rest = model.J_regressor @ shaped
  rotations = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix()
  posed = shaped + np.einsum("vcp,p->vc", model.posedirs, (rotations[1:] - np.eye(3)).ravel())
  world = []
  for joint, parent in enumerate(model.parents):
    local = np.eye(4)
    local[:3, :3] = rotations[joint]
    local[:3, 3] = rest[joint] - (rest[parent] if joint else 0)
    world.append(world[parent] @ local if joint else local)
  unposed = [np.block([[np.eye(3), -rest[j][:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]) for j in range(len(rest))]
  vertices = []
  for vertex, weights in zip(posed, model.weights):
    blend = sum(w * world[j] @ unposed[j] for j, w in enumerate(weights))
    vertices.append((blend @ np.append(vertex, 1))[:3])
  return np.array(vertices) + trans


def test_regressing_equals_skinning_every_vertex(model, regressor, folder):
  poses, trans = RNG.normal(0, 0.7, (5, 72)), RNG.normal(size=(5, 3))
  poses[0] = 0
  vertices = np.stack([skin(model, pose, BETAS, t) for pose, t in zip(poses, trans)])
  for matrix in (np.eye(48), 0.9 * regressor):
    np.testing.assert_allclose(smpl.regress(model, matrix, poses, BETAS, trans), matrix @ vertices, atol=1e-11)
  file = np.load(folder / "SMPL_FEMALE.npz")  # with 300 shape components, of which SMPL's 10 come first
  np.testing.assert_array_equal(model.shapedirs, file["shapedirs"][..., :10])


def test_the_legs_of_the_regressor_are_exchanged_back(model, regressor):
  """At rest the regressor and the approximation of the dummy files take joints from the same vertices."""
  rest = (model.J_regressor @ model.v_template)[None]
  at_rest = smpl.regress(model, regressor, np.zeros((1, 72)), np.zeros(10), np.zeros((1, 3)))
  np.testing.assert_allclose(skeleton.to_h36m(at_rest, "spin17"), joints.from_smpl24(rest), atol=1e-11)


def test_objects_of_smpls_own_pickle_are_refused_with_the_expected_layout(tmp_path):
  sparse = np.array(scipy.sparse.csc_matrix(np.eye(3)), dtype=object)
  np.savez(tmp_path / "SMPL_MALE.npz", J_regressor=sparse)
  with pytest.raises(ValueError, match=r"scipy\.sparse.*not plain data.*v_template \[6890 3\].* dense"):
    smpl.load_model(tmp_path / "SMPL_MALE.npz")


@pytest.mark.parametrize("change, message", [
    ({"weights": None}, "no 'weights'"),
    ({"J_regressor": np.zeros((24, 47))}, r"J_regressor has shape \(24, 47\), expected \(24, 48\)"),
    ({"shapedirs": np.zeros((48, 3, 9))}, r"shapedirs has shape \(48, 3, 9\), expected \(48, 3, 10\)"),
    ({"kintree_table": np.full((2, 24), 23)}, "no tree of 24 joints"),
])  # fmt: skip
def test_files_that_are_no_smpl_model_are_refused(tmp_path, folder, change, message):
  arrays = {**np.load(folder / "SMPL_MALE.npz"), **change}
  np.savez(tmp_path / "model.npz", **{k: v for k, v in arrays.items() if v is not None})
  with pytest.raises(ValueError, match=f"model.npz is not an SMPL model .*{message}.*expected an npz"):
    smpl.load_model(tmp_path / "model.npz")
