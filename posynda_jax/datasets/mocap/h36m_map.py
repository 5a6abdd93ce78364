"""Human3.6M-17 joints of motion capture skeletons: positions [f 17 3] in metres, Y up, the floor near y = 0.

Row i of a table gives the bones or joints that become joint i of `skeleton.JOINTS`. Two names mean their midpoint.
"""

import numpy as np

from posynda_jax.datasets.mocap import asf_amc, bvh

# CMU and HDM05: the END of a bone. The radius ends at two thirds of the forearm, so the wrist is the end of the wrist
# bone. The skeletons have no nose, so the neck joint is approximate, and `root` is 10 cm above the hips.
ASF = (
    ("lhipjoint", "rhipjoint"), ("rhipjoint",), ("rfemur",), ("rtibia",), ("lhipjoint",), ("lfemur",), ("ltibia",),
    ("lowerback",), ("thorax",), ("lowerneck", "upperneck"), ("head",),
    ("lclavicle",), ("lhumerus",), ("lwrist",), ("rclavicle",), ("rhumerus",), ("rwrist",),
)  # fmt: skip

# Bandai Namco: a joint. Joints 9 and 10 are estimates: points this far along the head's local +X, towards the crown.
BANDAI = (
    ("UpperLeg_L", "UpperLeg_R"), ("UpperLeg_R",), ("LowerLeg_R",), ("Foot_R",),
    ("UpperLeg_L",), ("LowerLeg_L",), ("Foot_L",), ("Spine",), ("Neck",), ("Head",), ("Head",),
    ("UpperArm_L",), ("LowerArm_L",), ("Hand_L",), ("UpperArm_R",), ("LowerArm_R",), ("Hand_R",),
)  # fmt: skip
BANDAI_ALONG_X_CM = {9: 5.5, 10: 17.0}

# ACCAD: a joint. Its "Neck" is 13 cm above the thorax of CMU, and its spine joints lie at other heights: midpoints come
# within 3 cm of where CMU has spine, thorax, neck and head above the hips.
ACCAD = (
    ("LeftUpLeg", "RightUpLeg"), ("RightUpLeg",), ("RightLeg",), ("RightFoot",),
    ("LeftUpLeg",), ("LeftLeg",), ("LeftFoot",),
    ("Spine", "Spine1"), ("Spine1", "Neck"), ("Neck",), ("Head", "Head_End"),
    ("LeftArm",), ("LeftForeArm",), ("LeftHand",), ("RightArm",), ("RightForeArm",), ("RightHand",),
)  # fmt: skip
CM = 0.01
JUMP_M = 0.1  # distance of a joint from the middle of its places one frame before and after, at JUMP_FPS
JUMP_FPS = 50.0  # and more: at lower rates a kick is as far out of line


def poses_from_amc(asf: bytes, amc: bytes, stride: int = 1, names=("ASF file", "AMC file")) -> np.ndarray:
  """Poses [f 17 3] of every `stride`-th frame of an AMC motion on an ASF skeleton, from the contents of both files.

  Raises ValueError that begins with the name of the damaged file.
  """
  skeleton = asf_amc.parse_asf(asf.decode("latin-1"), names[0])
  motion = asf_amc.parse_amc(amc.decode("latin-1"), skeleton, stride, names[1])
  return _midpoints(ASF, asf_amc.joint_ends(skeleton, motion), names[0])


def poses_from_bvh(content: bytes, table, name: str = "BVH file") -> tuple[np.ndarray, float]:
  """Poses [f 17 3] and the frame rate of a BVH file in cm, by the table BANDAI or ACCAD. Raises ValueError that begins
  with `name`.
  """
  motion = bvh.parse_bvh(content.decode("latin-1"), name)
  positions, rotations = bvh.forward(motion)
  poses = _midpoints(table, positions, name)
  if table is BANDAI:
    for j, along in BANDAI_ALONG_X_CM.items():
      poses[:, j] += rotations[BANDAI[j][0]].apply([along, 0, 0])
  return CM * poses, motion.fps


def jumps(poses: np.ndarray, fps: float) -> bool:
  """Whether a joint of poses [f 17 3] (m) jumps out of line, which bodies do not. Never for less than JUMP_FPS."""
  if fps < JUMP_FPS or len(poses) < 3:
    return False
  return bool(np.linalg.norm(poses[1:-1] - (poses[:-2] + poses[2:]) / 2, axis=-1).max() > JUMP_M)


def _midpoints(table, positions: dict[str, np.ndarray], file: str) -> np.ndarray:
  if missing := sorted({name for row in table for name in row} - set(positions)):
    raise ValueError(f"{file}: the skeleton has no {', '.join(missing)}, expected one of this dataset")
  return np.stack([np.mean([positions[name] for name in row], 0) for row in table], 1)
