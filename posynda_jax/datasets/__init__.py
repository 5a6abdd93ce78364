"""Pose datasets as TFDS builders, one folder a dataset. This room imports geometry, data and the dataset folders.

- `load`: `load`, the records of a split by name; `has_world`, `world_config`; `builder_class`.
- `record`: `view_features`, `world_features` and `Builder`, which all datasets share.
- `mocap`: ASF, AMC and BVH parsers, archives, `render_shots`, and `MotionBuilder`, the base of the builders
  `cmu_mocap`, `accad_mocap`, `amass_mocap`, `hdm05_mocap` and `bandai_namco_mocap`.
- `human36m`, `mpi_inf_3dhp`, `threedpw`: licensed datasets that the user downloads; `licensed` is what they share.
- `synthetic_motion`: procedural motion without a download.
"""
