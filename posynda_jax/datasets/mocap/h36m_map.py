"""Human3.6M-17 joints of motion capture skeletons: positions [f 17 3] in metres, Y up, the floor near y = 0.

Each row says what stands for the joint of that index in `skeleton.JOINTS`. Where two names stand, it is their midpoint.
"""

import numpy as np

from posynda_jax.datasets.mocap import asf_amc, bvh

# CMU and HDM05: a bone's END. The radius ends two thirds down the forearm, so the wrist is the end of the wrist bone;
# there is no nose, so the neck joint is approximate; `root` itself sits 10 cm above the hips.
ASF = (
    ("lhipjoint", "rhipjoint"), ("rhipjoint",), ("rfemur",), ("rtibia",), ("lhipjoint",), ("lfemur",), ("ltibia",),
    ("lowerback",), ("thorax",), ("lowerneck", "upperneck"), ("head",),
    ("lclavicle",), ("lhumerus",), ("lwrist",), ("rclavicle",), ("rhumerus",), ("rwrist",),
)  # fmt: skip

# Bandai Namco: a joint. Joints 9 and 10 are made up: this many cm from the head's along its local +X, to the crown.
BANDAI = (
    ("UpperLeg_L", "UpperLeg_R"), ("UpperLeg_R",), ("LowerLeg_R",), ("Foot_R",),
    ("UpperLeg_L",), ("LowerLeg_L",), ("Foot_L",), ("Spine",), ("Neck",), ("Head",), ("Head",),
    ("UpperArm_L",), ("LowerArm_L",), ("Hand_L",), ("UpperArm_R",), ("LowerArm_R",), ("Hand_R",),
)  # fmt: skip
BANDAI_ALONG_X_CM = {9: 5.5, 10: 17.0}
CM = 0.01


def poses_from_amc(asf: bytes, amc: bytes, stride: int = 1, names=("ASF file", "AMC file")) -> np.ndarray:
  """Poses [f 17 3] of every `stride`-th frame of an AMC motion on an ASF skeleton, given as file contents.

  Raises ValueError that begins with the name of the file at fault.
  """
  skeleton = asf_amc.parse_asf(asf.decode("latin-1"), names[0])
  motion = asf_amc.parse_amc(amc.decode("latin-1"), skeleton, stride, names[1])
  bones = {bone for row in ASF for bone in row}
  if not bones <= set(skeleton.bones):
    raise ValueError(
        f"{names[0]}: no bone {', '.join(sorted(bones - set(skeleton.bones)))}; not a CMU or HDM05 skeleton"
    )
  ends = asf_amc.joint_ends(skeleton, motion, sorted(bones))
  return np.stack([np.mean([ends[bone] for bone in row], 0) for row in ASF], 1)


def poses_from_bvh(content: bytes, name: str = "BVH file") -> tuple[np.ndarray, float]:
  """Poses [f 17 3] and the frame rate of a Bandai Namco BVH file. Raises ValueError that begins with `name`."""
  motion = bvh.parse_bvh(content.decode("latin-1"), name)
  missing = {joint for row in BANDAI for joint in row} - {joint.name for joint in motion.joints}
  if missing:
    raise ValueError(f"{name}: no joint {', '.join(sorted(missing))}; not a Bandai Namco skeleton")
  positions, turns = bvh.forward(motion)
  poses = np.stack([np.mean([positions[joint] for joint in row], 0) for row in BANDAI], 1)
  for j, along in BANDAI_ALONG_X_CM.items():
    poses[:, j] += along * turns[BANDAI[j][0]][:, :, 0]
  return CM * poses, motion.fps
