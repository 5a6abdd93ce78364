"""Laws of low-rank adaptation, on MixSTE and on a model with convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from posynda_jax.peft import lora
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


def test_a_new_adapter_leaves_the_model_bit_identical():
  model, base = scene.tiny_model()
  adapter = lora.init(jax.random.key(0), base, rank=4)
  np.testing.assert_array_equal(lora.bind(model, base, adapter)(*inputs()), model.apply(base, *inputs()))


@pytest.mark.parametrize("rule", [lora.ATTENTION, lora.EVERYWHERE, r".*/mlp_(in|out)"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_factorised_equals_merged(rule, scale):
  model, base, adapter = tiny(rule=rule)
  factorised = lora.bind(model, base, adapter, scale)(*inputs())
  np.testing.assert_allclose(factorised, model.apply(lora.merge(base, adapter, scale), *inputs()), atol=1e-4)
  assert jnp.abs(factorised - model.apply(base, *inputs())).max() > 1e-3


@pytest.mark.parametrize("length", [9, 16, 33])
def test_convolutions_factorised_equal_merged(length):
  model, x = Convolutions(), jax.random.normal(jax.random.key(0), (2, length, 4))
  base = model.init(jax.random.key(1), x)
  adapter = trained(lora.init(jax.random.key(2), base, rank=2, rule=lora.EVERYWHERE))
  assert set(adapter) == {"strided", "dilated", "pointwise", "out"}
  merged = model.apply(lora.merge(base, adapter, 0.5), x)
  np.testing.assert_allclose(lora.bind(model, base, adapter, 0.5)(x), merged, atol=1e-4)


def test_unmerge_undoes_merge():
  _, base, adapter = tiny()
  assert_close(lora.unmerge(lora.merge(base, adapter, 0.7), adapter, 0.7), base)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_gradients_reach_each_factor_and_a_frozen_bases_are_the_same(remat, scale):
  model, base, adapter = tiny(rule=lora.EVERYWHERE)

  def loss(adapter, model, frozen):
    return (lora.bind(model, base, adapter, scale, frozen=frozen)(*inputs()) ** 2).mean()

  value, grads = jax.value_and_grad(loss)(adapter, model, False)
  assert jax.tree.structure(grads) == jax.tree.structure(adapter)
  assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))
  frozen_value, frozen_grads = jax.value_and_grad(loss)(adapter, model.clone(remat=remat), True)
  np.testing.assert_allclose(frozen_value, value, rtol=1e-5)
  largest = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(grads))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * largest), frozen_grads, grads)


def test_jit_does_not_change_an_adapted_model():
  model, base, adapter = tiny()
  jitted = jax.jit(lambda base, adapter, *args: lora.bind(model, base, adapter)(*args))
  assert_close(jitted(base, adapter, *inputs()), lora.bind(model, base, adapter)(*inputs()))


@pytest.mark.parametrize("rank", [1, 4, 8])
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
