"""Adapts a 2D-to-3D human pose lifter to an unlabelled domain (PoSynDA, MM '23), as pure functions in JAX and Flax.

Each folder is a room with one idea, and its docstring says what it is for. Rooms import in one direction: `geometry`,
`peft` and `runtime`; then `diffusion` and `data`; `datasets`; `evaluation` and `visuals`; `adaptation`; `interop`; and
last the module `lifter`, which is keypoints in, poses out, as one call. The main job is `adaptation.job.run`.
"""

__version__ = "0.1.0"
