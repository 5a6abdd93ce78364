"""Published facts about the sequences and cameras of MPI-INF-3DHP (DATASETS.md 2.1, 2.2)."""

# mpii_get_sequence_info.m: sequence -> (frames, frames a second). `annot.mat` may have rows after the last frame.
TRAIN = {
    "S1/Seq1": (6416, 25), "S1/Seq2": (12430, 50),
    "S2/Seq1": (6502, 25), "S2/Seq2": (6081, 25),
    "S3/Seq1": (12488, 50), "S3/Seq2": (12283, 50),
    "S4/Seq1": (6171, 25), "S4/Seq2": (6675, 25),
    "S5/Seq1": (12820, 50), "S5/Seq2": (12312, 50),
    "S6/Seq1": (6188, 25), "S6/Seq2": (6145, 25),
    "S7/Seq1": (6239, 25), "S7/Seq2": (6320, 25),
    "S8/Seq1": (6468, 25), "S8/Seq2": (6054, 25),
}
TRAIN_RESOLUTION = (2048, 2048)

# Sequence -> (frames, valid frames by the readme). A re-released TS6 has 392 valid frames.
TEST = {
    "TS1": (6151, 603), "TS2": (6080, 540), "TS3": (5838, 505), "TS4": (6007, 553), "TS5": (320, 276),
    "TS6": (492, 452),
}  # fmt: skip
TEST_FPS = 25  # not stated by the owners: the rate of most of their training videos
ACTIVITIES = (
    "unknown", "Standing/Walking", "Exercising", "Sitting", "Reaching/Crouching", "On the floor", "Sports",
    "Miscellaneous",
)

# mpii_get_camera_set.m. Camera 2 of S6/Seq2 has too short a video (anibali/margipose issue 31), but a whole annotation.
CAMERAS = {"vnect": (0, 1, 2, 4, 5, 6, 7, 8), "all": tuple(range(14)), "chest": (0, 2, 4, 7, 8)}


def subject(sequence: str) -> str:
  """The split of a sequence: "S1" of "S1/Seq1", "TS1" of "TS1"."""
  return sequence.partition("/")[0]


def other_half(members, sequence: str) -> list[str]:
  """The training sequences of the same subject that `members` lacks."""
  return [name for name in TRAIN if subject(name) == subject(sequence) and name not in members]
