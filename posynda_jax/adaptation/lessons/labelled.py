"""What every lesson has and returns, and the purposes of its random keys."""

import enum
from typing import Any

import flax.struct
from jaxtyping import Array, Float


@flax.struct.dataclass
class Labelled:
  """Labelled clips: screen-normalised `keypoints`, root-relative `poses` (m), and the `weight` of each frame in the
  loss (Eq. 9).

  `clip`: whose camera and confidences the keypoints have; None: the target clip's camera, confidence 1 for all
  joints.
  """

  keypoints: Float[Array, "b f j 2"]
  poses: Float[Array, "b f j 3"]
  weight: Float[Array, "b f"]
  clip: dict | None = None
  memory: Any = None  # what a lesson that learns carries to the next update
  metrics: dict = flax.struct.field(default_factory=dict)  # name -> scalar, logged as it is


class Lesson:
  """What a lesson needs, unless its class says otherwise: the package docstring explains each."""

  needs_source = False
  needs_body = False
  needs_labels = False
  needs_people = False
  resizes = False


class Purpose(enum.IntEnum):
  """What a key is for. The numbers are folded into keys, so a new purpose gets a new number."""

  RENDER_SOURCE = 0
  TEACHER = 1
  STUDENT = 4  # noise of the student on the first lesson's clips
  STUDENT_2 = 5
  GENERATOR = 6
  ORBIT = 7
  STUDENT_3 = 8
  TUMBLE_SOURCE = 9
  TUMBLE_TARGET = 10


def student_purpose(number: int) -> int:
  """Purpose of the student's noise on the clips of a recipe's lesson `number`."""
  first = (Purpose.STUDENT, Purpose.STUDENT_2, Purpose.STUDENT_3)
  return int(first[number]) if number < len(first) else 100 + number
