"""Lifts a planted person with the installed package alone, in a folder that is no checkout, and checks the poses."""

import pathlib
import sys

import numpy as np

import posynda_jax
from posynda_jax import lifter

assert not pathlib.Path("pyproject.toml").exists() and "site-packages" in posynda_jax.__file__, posynda_jax.__file__
assert not {"matplotlib", "tensorboardX", "tensorflow_datasets"} & set(sys.modules)
JOINTS = np.array([  # a standing person in metres, Human3.6M-17 order: x right, y down
    [0, 0], [-0.13, 0], [-0.15, 0.43], [-0.16, 0.86], [0.13, 0], [0.15, 0.43], [0.16, 0.86], [0, -0.23], [0, -0.48],
    [0, -0.58], [0, -0.7], [0.17, -0.45], [0.2, -0.17], [0.22, 0.08], [-0.17, -0.45], [-0.2, -0.17], [-0.22, 0.08]])
turn = np.linspace(0, 1.5, 40)[:, None]  # radians around the vertical
x, y = JOINTS.T
points = np.stack([x * np.cos(turn), np.broadcast_to(y, (40, 17)), 4 + x * np.sin(turn)], -1)
keypoints = 1400 * points[..., :2] / points[..., 2:] + [960, 540]
lifted = lifter.load()(keypoints, resolution=(1920, 1080), fps=30, intrinsics=(1400, 1400, 960, 540), layout="h36m17")
error = 1000 * np.linalg.norm(lifted.pose - (points - points[:, :1]), axis=-1).mean()
versions = f"jax {sys.modules['jax'].__version__}, numpy {np.__version__}, Python {sys.version.split()[0]}"
print(f"{versions}: {error:.0f} mm off")
assert np.isfinite(lifted.pose).all() and error < 150
