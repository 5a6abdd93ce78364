"""Laws of low-rank adaptation, on MixSTE and on convolutions, and of deltas; parameters and FLOPs are the paper's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.diffusion.videopose import VideoPose
from posynda_jax.peft import counting, deltas, lora
from tests import scene
from tests.tolerance import assert_close


class Convolutions(nn.Module):
  """A strided, a dilated and a pointwise convolution, and a Dense layer."""

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(8, (3,), strides=(2,), name="strided")(x)
    x = nn.Conv(8, (3,), kernel_dilation=(2,), padding="VALID", name="dilated")(x)
    x = nn.Conv(6, (1,), name="pointwise")(nn.relu(x))
    return nn.Dense(5, name="out")(x)


def inputs():
  keypoints = jnp.asarray(scene.poses((2, 3))[..., :2])
  return keypoints, jnp.asarray(scene.poses((2, 3), seed=1)), jnp.array([3, 900])


def trained(adapter, seed=3):
  """The adapter with every factor moved off its start."""
  leaves, tree = jax.tree.flatten(adapter)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
  return jax.tree.unflatten(tree, moved)


def tiny(rank: int = 2, rule: str = lora.ATTENTION, seed: int = 0):
  """A small model, its base and a trained adapter."""
  model, base = scene.tiny_model()
  return model, base, trained(lora.init(jax.random.key(seed), base, rank, rule))


@pytest.mark.parametrize("rule, scale", [(lora.ATTENTION, 1.0), (lora.EVERYWHERE, 0.5)])
def test_factorised_equals_merged(rule, scale):
  model, base, adapter = tiny(rule=rule)
  apply, bound = jax.jit(model.apply), jax.jit(lambda adapter, *args: lora.bind(model, base, adapter, scale)(*args))
  factorised = bound(adapter, *inputs())
  np.testing.assert_allclose(factorised, apply(lora.merge(base, adapter, scale), *inputs()), atol=1e-4)
  assert jnp.abs(factorised - apply(base, *inputs())).max() > 1e-3


@pytest.mark.parametrize("length", [9, 16])
def test_convolutions_factorised_equal_merged_and_a_new_adapter_leaves_the_model_bit_identical(length):
  model, x = Convolutions(), jax.random.normal(jax.random.key(0), (2, length, 4))
  base = model.init(jax.random.key(1), x)
  new = lora.init(jax.random.key(2), base, rank=2, rule=lora.EVERYWHERE)
  assert set(new) == {"strided", "dilated", "pointwise", "out"}
  np.testing.assert_array_equal(lora.bind(model, base, new)(x), model.apply(base, x))
  adapter = trained(new)
  merged = model.apply(lora.merge(base, adapter, 0.5), x)
  np.testing.assert_allclose(lora.bind(model, base, adapter, 0.5)(x), merged, atol=1e-4)


def test_gradients_reach_each_factor_and_a_frozen_bases_are_the_same():
  model, base, adapter = tiny(rule=lora.EVERYWHERE)

  def differentiate(model, frozen):
    def loss(adapter):
      return (lora.bind(model, base, adapter, 0.5, frozen=frozen)(*inputs()) ** 2).mean()

    return jax.jit(jax.value_and_grad(loss))(adapter)

  value, grads = differentiate(model, False)
  frozen_value, frozen_grads = differentiate(model.clone(remat=True), True)
  assert jax.tree.structure(grads) == jax.tree.structure(adapter)
  assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))
  np.testing.assert_allclose(frozen_value, value, rtol=1e-5)
  largest = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(grads))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * largest), frozen_grads, grads)


@pytest.mark.parametrize("rank", [1, 8])
def test_initial_factors_have_the_stated_spread(rank):
  base = {"params": {"x": {"kernel": jnp.zeros((4096, 64))}}}
  adapter = lora.init(jax.random.key(0), base, rank, lora.EVERYWHERE)["x"]
  np.testing.assert_allclose(adapter["a"].std(), 1 / rank, rtol=0.05)
  assert not adapter["b"].any()


def test_a_rank_above_a_layers_size_and_a_rule_without_a_match_are_refused():
  _, base = scene.tiny_model()
  with pytest.raises(ValueError, match="rank 17 does not fit spatial_0/attention/proj"):
    lora.init(jax.random.key(0), base, rank=17)
  with pytest.raises(ValueError, match="spatial_0/attention/qkv"):
    lora.targets(base, "attn")


def test_an_adapter_of_another_model_is_refused():
  model, base, adapter = tiny()
  other = {"decoder/qkv": adapter["spatial_0/attention/qkv"]}
  for use in (lambda: lora.bind(model, base, other)(*inputs()), lambda: lora.merge(base, other)):
    with pytest.raises(ValueError, match="decoder/qkv"):
      use()


def test_a_weighted_sum_of_adapters_is_exact():
  (model, base, one), (_, _, two) = tiny(4), tiny(2, seed=1)
  combined = lora.combine([one, two], [0.25, -1.5])
  assert {factors["b"].shape[0] for factors in combined.values()} == {6}
  by_hand = lora.merge(lora.merge(base, one, 0.25), two, -1.5)
  assert_close(lora.merge(base, combined), by_hand)
  assert_close(lora.unmerge(lora.unmerge(by_hand, two, -1.5), one, 0.25), base)
  np.testing.assert_allclose(lora.bind(model, base, combined)(*inputs()), model.apply(by_hand, *inputs()), atol=1e-4)
  assert_close(lora.merge(base, lora.combine([one, one], [1.0, -1.0])), base)
  with pytest.raises(ValueError, match="must have the same paths"):
    lora.combine([one, lora.init(jax.random.key(0), base, 1, r".*/proj")], [1.0, 1.0])


def test_relative_norms_are_those_of_each_kernels_change():
  _, base = scene.tiny_model()
  adapter = lora.init(jax.random.key(0), base, rank=2)
  assert set(lora.relative_norms(base, adapter).values()) == {0.0}
  path = "temporal_0/attention/qkv"
  adapter[path]["b"] = jnp.ones_like(adapter[path]["b"])
  norms = lora.relative_norms(base, adapter, scale=-2.0)
  trees = base, lora.merge(base, adapter)
  before, after = (flatten_dict(tree["params"], sep="/")[f"{path}/kernel"] for tree in trees)
  assert norms[path] == pytest.approx(2 * np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-4)
  assert sum(value > 0 for value in norms.values()) == 1


IS_CHOSEN = {"full": lambda _: True, "biases": lambda path: path.endswith("bias"), "norms": lambda path: "norm" in path}


@pytest.mark.parametrize("rule", deltas.RULES)
def test_zero_deltas_are_the_base_and_a_gradient_step_moves_only_what_the_rule_chooses(rule):
  model, base = scene.tiny_model()
  start = deltas.init(base, rule)
  assert set(start) == set(filter(IS_CHOSEN[rule], flatten_dict(base["params"], sep="/")))
  jax.tree.map(np.testing.assert_array_equal, deltas.add(base, start), base)
  grads = jax.jit(jax.grad(lambda tree: (model.apply(deltas.add(base, tree), *inputs()) ** 2).mean()))(start)
  tuned = flatten_dict(deltas.add(base, jax.tree.map(lambda grad: -1e-2 * grad, grads))["params"], sep="/")
  moved = {path for path, leaf in flatten_dict(base["params"], sep="/").items() if (leaf != tuned[path]).any()}
  assert moved <= set(start)
  assert {"full": "embed/kernel", "biases": "head/bias", "norms": "spatial_0/norm1/scale"}[rule] in moved


@pytest.mark.parametrize("use, message", [
    (lambda base: deltas.init(base, "nothing"), "rule 'nothing' matches no parameter; the base has embed/bias"),
    (lambda base: deltas.add(base, {"head/bias": jnp.zeros(4)}), r"head/bias .* \(4,\), but the base has \(3,\)"),
    (lambda base: deltas.add(base, {"tail/bias": jnp.zeros(4)}), "tail/bias .* but the base has nothing"),
])
def test_a_delta_that_does_not_fit_the_base_is_named(use, message):
  with pytest.raises(ValueError, match=message):
    use(scene.tiny_model()[1])


def shapes(model, num_frames: int):
  """Shapes of a model's inputs and base."""
  keypoints, noisy = (jax.ShapeDtypeStruct((1, num_frames, 17, c), jnp.float32) for c in (2, 3))
  inputs = keypoints, noisy, jax.ShapeDtypeStruct((1,), jnp.int32)
  return inputs, jax.eval_shape(model.init, jax.random.key(0), *inputs)


def adapter_shapes(base, rank: int, rule: str = lora.ATTENTION):
  return jax.eval_shape(lambda base: lora.init(jax.random.key(0), base, rank, rule), base)


def test_parameters_and_flops_of_the_default_model_are_those_of_table_3():
  model = MixSTE(num_frames=243)
  inputs, base = shapes(model, 243)
  assert counting.count(base) == 34_835_459 and len(lora.targets(base)) == 32
  assert counting.count(adapter_shapes(base, 6)) == 49_152 * 6
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
