"""Body size and camera view that were measured on a source: an argument of compiled programs, not a setting."""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from posynda_jax.geometry import virtual_camera


@flax.struct.dataclass
class Measured:
  """`body` [16]: mean bone lengths (m) of people. `view` [5]: of a virtual camera (`virtual_camera.measure_view`).
  None: not used. `inputs`: of the denoiser: 2 for keypoints, 5 for `virtual_camera.channels`.
  """

  body: Float[Array, "16"] | None = None
  view: Float[Array, "5"] | None = None
  inputs: int = flax.struct.field(pytree_node=False, default=2)

  @property
  def is_canonical(self) -> bool:
    """Whether the base has a canonical camera, which sees all clips in training and in tests."""
    return self.inputs == virtual_camera.CHANNELS


def make(body=(), view=(), inputs: int = 2) -> Measured:
  """From sequences of numbers; an empty one gives None."""
  return Measured(*(jnp.asarray(values, jnp.float32) if len(values) else None for values in (body, view)), inputs)


def see(clip: dict, measured: Measured) -> dict:
  """A clip through the virtual camera where there is one. Adds `inputs` [b f j i] of the denoiser, and `rotation`
  [b 3 3] from the real camera's axes.
  """
  if measured.view is None:
    return {**clip, "inputs": clip["keypoints"]}
  rendered, rotation = virtual_camera.render_clip(clip, measured.view)
  inputs = virtual_camera.channels(rendered, rotation) if measured.is_canonical else rendered["keypoints"]
  return {**rendered, "inputs": inputs, "rotation": rotation}
