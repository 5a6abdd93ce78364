"""Parameters and FLOPs are those of the paper."""

import jax
import jax.numpy as jnp
import pytest

from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.diffusion.videopose import VideoPose
from posynda_jax.peft import counting, lora


def shapes(model, num_frames: int):
  """Shapes of a model's inputs and base."""
  keypoints, noisy = (jax.ShapeDtypeStruct((1, num_frames, 17, c), jnp.float32) for c in (2, 3))
  inputs = keypoints, noisy, jax.ShapeDtypeStruct((1,), jnp.int32)
  return inputs, jax.eval_shape(model.init, jax.random.key(0), *inputs)


def adapter_shapes(base, rank: int, rule: str = lora.ATTENTION):
  return jax.eval_shape(lambda base: lora.init(jax.random.key(0), base, rank, rule), base)


@pytest.mark.parametrize("num_frames, base_count", [(243, 34_835_459), (27, 34_724_867)])
def test_parameters_of_the_default_model(num_frames, base_count):
  _, base = shapes(MixSTE(num_frames=num_frames), num_frames)
  assert counting.count(base) == base_count and len(lora.targets(base)) == 32
  for rank in (1, 4, 6):
    assert counting.count(adapter_shapes(base, rank)) == 49_152 * rank


def test_flops_of_linear_layers_are_those_of_table_3():
  model = MixSTE(num_frames=243)
  inputs, base = shapes(model, 243)
  plain, adapted = (counting.linear_flops(model, base, tree, *inputs) for tree in ({}, adapter_shapes(base, 4)))
  assert [f"{flops / 1e9:.2f}" for flops in (plain, adapted, 3 * adapted)] == ["277.26", "278.88", "836.65"]
  assert adapted - plain == 2 * 243 * 17 * 4 * 49_152


def test_flops_of_convolutions():
  model = VideoPose(filter_widths=(3,), channels=4, num_frames=5)
  inputs, base = shapes(model, 5)
  plain, adapted = (
      counting.linear_flops(model, base, tree, *inputs) for tree in ({}, adapter_shapes(base, 2, "expand_conv"))
  )
  expand, shrink = 3 * 85, 51  # a window of 3 frames of 17 (2 + 3) numbers; 17 joints of 3 numbers
  assert plain == 2 * 5 * (expand * 4 + 4 * shrink)
  assert adapted - plain == 2 * 5 * 2 * (expand + 4)
