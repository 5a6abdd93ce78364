"""Geometry of people and cameras in JAX and NumPy, for all other rooms. This room imports no other room.

- `layouts`: joints of detectors as Human3.6M-17; `LAYOUTS`. `measured`: `Measured`, `see`.
- `skeleton`: joint orders; `to_h36m`, `flip`, `root_centre`, `bone_lengths`.
- `camera`: `project`, `rays`, `solve_root`, world and camera frames, screen units.
- `camera_tables`: published intrinsics and extrinsics.
- `rigs`: virtual rigs; `get_rig`, `draw_view`.
- `detector`: `detect`, a simulated 2D detector.
- `virtual_camera`: `measure_view`, `render_clip`, `channels`, `to_camera_axes`.
- `body`: corrections of a pose by its 2D; `onto_rays`, `observed_bones`, `fit_body`, `refine`, `check_refinement`.
- `gravity`: which way is up. `triangulation`: joints seen by several cameras.
- `metrics`: pose errors; `mpjpe`, `p_mpjpe`, `n_mpjpe`, `mpjve`, `pck`, `auc`.
"""
