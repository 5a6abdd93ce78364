"""What the student learns from: one lesson a file, each a small frozen dataclass with its own few settings.

A lesson is called as `lesson(keys, clips, teacher) -> Labelled` and is a pure function. `keys(purpose, n)` gives one
key for each of n clips. `clips` holds one device's share of the batch: `target` clips as `teacher.Teacher` describes
them, and `source` clips with `keypoints` [b f j 2], absolute camera-frame `poses` [b f j 3] (m) and `valid` [b f].
`Labelled` holds screen-normalised keypoints [b f j 2], root-relative poses [b f j 3] (m) and weights [b f].
With a virtual camera, target clips are in its axes. Only `TargetLabels` reads target poses.

Class attributes say what a lesson needs: `needs_source` (source clips), `needs_body` (the size of the source's people),
`resizes` (its people have the target's proportions), `needs_labels` (target poses), `needs_people` (the bone lengths of
each target person, `body` [b 16] of target clips, by `people.measure`).

A lesson with its own parameters (`Adversarial`) has `init(key, num_frames)`, which returns its state. Each call gets
that state as fourth argument and returns the new state as `Labelled.memory`.

To add a lesson: write a file here and a line in `recipes.RECIPES`. If it draws random numbers, add a number to
`labelled.Purpose`.

- `placed.Synthesis`: F, Eq. 3
- `placed.AsSeen`: F that also rotates, resizes and pairs by the teacher's view of the target
- `pseudo_labels.PseudoLabels`: Eq. 4-5
- `novel_views.NovelViews`: the teacher's poses of target people, projected from another side
- `target_labels.TargetLabels`: the ceiling
- `adversarial.Adversarial`: a learned generator of target poses
"""
