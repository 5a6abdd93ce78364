"""What the student learns from: one lesson a file, each a small frozen dataclass with its own few settings.

A lesson is called as `lesson(keys, clips, teacher) -> Labelled` and is a pure function. `keys(purpose, n)` gives one
key for each of n clips. `clips` holds one device's share of the batch: `target` clips as `teacher.Teacher` describes
them, and `source` clips with `keypoints` [b f j 2], absolute camera-frame `poses` [b f j 3] (m) and `valid` [b f].
`needs_source` says whether a lesson uses source clips. Only `TargetLabels` reads target poses. A lesson that learns
itself (`Adversarial`) has `init(key, num_frames)`, takes what it returns as a fourth argument, and returns its
successor as `Labelled.memory`.

- `placed.Synthesis`: F, Eq. 3
- `placed.AsSeen`: F that also rotates, resizes and pairs by the teacher's view of the target
- `pseudo_labels.PseudoLabels`: Eq. 4-5
- `novel_views.NovelViews`: the teacher's poses of target people, projected from another side
- `target_labels.TargetLabels`: the ceiling
- `adversarial.Adversarial`: a learned generator of target poses
"""
