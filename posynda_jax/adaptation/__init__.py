"""Adaptation of a frozen base to an unlabelled target. This room imports all rooms but interop and the lifter.

`job.run` loads base, source and test data (`task`), opens streams of clips and trains an adapter (`training`). In one
update (`step.adapt_step`), `virtual_camera` renders the target clips anew if the base or the recipe has such a
camera; they are then in its axes. `sources.render_source` renders the source clips. Each of the recipe's
`lessons` makes labelled clips. It may ask the `Teacher`, which computes only what it is asked. A base's own camera
renders the labelled clips again (`step.student_clips`). The student (base and adapter) predicts the poses from pure
noise and 2D. The loss is the weighted squared error (Eq. 9). After training a guard (`account`) keeps the largest
share of the adapter that lowers the doubt enough, or none. The job scores base and adapter on the target's
test split, or own keypoints by reprojection on the same frames.

- `job`: the main job as one call; `run`, `Job`, `Result`. `task`: `Task`, a job with its data loaded; `load_task`.
- `recipes`: lessons and training settings by name; `Recipe`, `RECIPES`, `get`, `ceiling_of`, `describe`.
- `lessons`: what the student learns from, one file each. `teacher`: `Teacher`. `placement`: how Eq. 3 places people.
- `step`: one update; `adapt_step`, `init_state`, `Setting`. `training`: the loop; `train_adapter`, `open_streams`.
- `adapters`: LoRA or base parameters, and a bias by joint; `AdapterConfig`, `init`, `make_denoiser`, `merge`.
- `sources`: data by name; `Folders`, `Source`, `Unlabelled`, `load_source`, `open_clips`, `render_source`.
- `bases`: bases and weights by name; `load`, `load_weights`, `Base`, `Weights`. `tensors_file`: their `.safetensors`.
- `base_job`: bases by plan; `Plan`, `PLANS`, `train_base`, `ablations`. `pretraining`: its update; `pretrain_step`.
  `augmentations`: its poses that nobody captured; `turn`, `reproportion`, `hide`.
- `account`: what can be said without labels; `take_account`, `decide`, `shrink`.
- `sweep`, `sweep_job`: several adaptations in one compiled step; `sweep_job.run`.
- `rows`, `tables`, `table_job`: the paper's tables as data, their text, and their runs; `Bench`, `run_rows`.
"""
