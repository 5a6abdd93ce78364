"""Laws of functional low-rank adaptation, on MixSTE and on models of somebody else's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.peft import counting, lora
from tests import scene


class Convolutions(nn.Module):
  """A strided, a dilated and a pointwise convolution, and a Dense: a model that has never heard of adapters."""

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
  return jax.tree.unflatten(tree, [leaf + 0.1 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)])


def test_a_fresh_adapter_leaves_the_model_bit_identical():
  model, base = scene.tiny_model()
  adapter = lora.init(jax.random.key(0), base, rank=4)
  np.testing.assert_array_equal(lora.bind(model, base, adapter)(*inputs()), model.apply(base, *inputs()))


@pytest.mark.parametrize("rule", [lora.ATTENTION, lora.EVERYWHERE, r".*/mlp_(in|out)"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_factorised_equals_merged(rule, scale):
  model, base = scene.tiny_model()
  adapter = trained(lora.init(jax.random.key(0), base, rank=2, rule=rule))
  factorised = lora.bind(model, base, adapter, scale)(*inputs())
  merged = model.apply(lora.merge(base, adapter, scale), *inputs())
  np.testing.assert_allclose(factorised, merged, atol=1e-4)
  assert jnp.abs(factorised - model.apply(base, *inputs())).max() > 1e-3


def test_unmerge_undoes_merge():
  _, base = scene.tiny_model()
  adapter = trained(lora.init(jax.random.key(0), base, rank=2))
  back = lora.unmerge(lora.merge(base, adapter, 0.7), adapter, 0.7)
  for ours, original in zip(jax.tree.leaves(back), jax.tree.leaves(base), strict=True):
    np.testing.assert_allclose(ours, original, atol=1e-6)


@pytest.mark.parametrize("length", [9, 16, 33])
def test_convolutions_factorised_equal_merged(length):
  model = Convolutions()
  x = jax.random.normal(jax.random.key(0), (2, length, 4))
  base = model.init(jax.random.key(1), x)
  adapter = trained(lora.init(jax.random.key(2), base, rank=2, rule=lora.EVERYWHERE))
  assert set(adapter) == {"strided", "dilated", "pointwise", "out"}
  np.testing.assert_allclose(lora.bind(model, base, adapter, 0.5)(x), model.apply(lora.merge(base, adapter, 0.5), x), atol=1e-4)


def test_gradients_reach_the_adapter_and_no_tree_holds_the_base():
  model, base = scene.tiny_model()
  adapter = trained(lora.init(jax.random.key(0), base, rank=2))
  grads = jax.grad(lambda adapter: (lora.bind(model, base, adapter)(*inputs()) ** 2).mean())(adapter)
  assert jax.tree.structure(grads) == jax.tree.structure(adapter)
  assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_frozen_bases_adapter_has_the_factorised_gradient(remat, scale):
  model, base = scene.tiny_model()
  adapter = trained(lora.init(jax.random.key(0), base, rank=2, rule=lora.EVERYWHERE))
  loss = lambda adapter, model, frozen: (lora.bind(model, base, adapter, scale, frozen=frozen)(*inputs()) ** 2).mean()
  value, grads = jax.value_and_grad(loss)(adapter, model, False)
  ours, found = jax.value_and_grad(loss)(adapter, model.clone(remat=remat), True)
  np.testing.assert_allclose(ours, value, rtol=1e-5)
  largest = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(grads))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * largest), found, grads)


def test_adapters_see_drop_path_and_jit_alike():
  model, base = scene.tiny_model()
  adapter = trained(lora.init(jax.random.key(0), base, rank=2))
  jitted = jax.jit(lambda base, adapter, *args: lora.bind(model, base, adapter)(*args))
  np.testing.assert_allclose(jitted(base, adapter, *inputs()), lora.bind(model, base, adapter)(*inputs()), atol=1e-5)


@pytest.mark.parametrize("num_frames, base_count", [(243, 34_835_459), (27, 34_724_867)])
def test_parameter_counts_of_the_default_model(num_frames, base_count):
  model = MixSTE(num_frames=num_frames)
  shape = (1, num_frames, 17)
  struct = lambda *s: jax.ShapeDtypeStruct(shape + s, jnp.float32)
  base = jax.eval_shape(model.init, jax.random.key(0), struct(2), struct(3), jax.ShapeDtypeStruct((1,), jnp.int32))
  assert counting.count(base) == base_count
  for rank, expected in ((1, 49_152), (4, 196_608), (6, 294_912)):
    adapter = jax.eval_shape(lambda base, rank=rank: lora.init(jax.random.key(0), base, rank), base)
    assert counting.count(adapter) == expected
  assert len(lora.targets(base)) == 32


def test_initial_factors_have_the_stated_spread():
  _, base = scene.tiny_model()
  big = {"params": {"x": {"kernel": jnp.zeros((4096, 64))}}}
  for rank in (1, 4, 8):
    adapter = lora.init(jax.random.key(0), big, rank, lora.EVERYWHERE)["x"]
    np.testing.assert_allclose(adapter["a"].std(), 1 / rank, rtol=0.05)
    assert not adapter["b"].any()


def test_a_rank_larger_than_the_layer_is_refused():
  _, base = scene.tiny_model()
  with pytest.raises(ValueError, match="rank 17 does not fit spatial_0/attention/proj"):
    lora.init(jax.random.key(0), base, rank=17)


def test_a_rule_that_matches_nothing_names_what_there_is():
  _, base = scene.tiny_model()
  with pytest.raises(ValueError, match="spatial_0/attention/qkv"):
    lora.targets(base, "attn")


def test_an_adapter_of_another_model_is_refused():
  model, base = scene.tiny_model()
  adapter = lora.init(jax.random.key(0), base, rank=2)
  stranger = {"decoder/qkv": adapter["spatial_0/attention/qkv"]}
  with pytest.raises(ValueError, match="decoder/qkv"):
    lora.bind(model, base, stranger)(*inputs())
  with pytest.raises(ValueError, match="decoder/qkv"):
    lora.merge(base, stranger)


def test_a_weighted_sum_of_adapters_is_exact_and_not_the_mean_of_factors():
  model, base = scene.tiny_model()
  one, two = (trained(lora.init(jax.random.key(i), base, rank=r), i) for i, r in ((0, 4), (1, 2)))
  combined = lora.combine([one, two], [0.25, -1.5])
  assert {ab["b"].shape[0] for ab in combined.values()} == {6}
  by_hand = lora.merge(lora.merge(base, one, 0.25), two, -1.5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), lora.merge(base, combined), by_hand)
  np.testing.assert_allclose(lora.bind(model, base, combined)(*inputs()), model.apply(by_hand, *inputs()), atol=1e-4)
  none = lora.combine([one, one], [1.0, -1.0])
  np.testing.assert_allclose(lora.bind(model, base, none)(*inputs()), model.apply(base, *inputs()), atol=1e-5)
  with pytest.raises(ValueError, match="adapters of the same paths"):
    lora.combine([one, lora.init(jax.random.key(0), base, 1, r".*/proj")], [1.0, 1.0])


def test_norms_say_where_an_adaptation_happened():
  _, base = scene.tiny_model()
  adapter = lora.init(jax.random.key(0), base, rank=2)
  assert set(lora.relative_norms(base, adapter).values()) == {0.0}
  path, ab = next(iter(adapter.items()))
  adapter = {**adapter, path: {"a": ab["a"], "b": jnp.ones_like(ab["b"])}}
  norms = lora.relative_norms(base, adapter, scale=-2.0)
  kernel = np.asarray(lora.merge(base, adapter)["params"][path.split("/")[0]]["attention"][path.split("/")[2]]["kernel"])
  plain = np.asarray(base["params"][path.split("/")[0]]["attention"][path.split("/")[2]]["kernel"])
  assert norms[path] == pytest.approx(2 * np.linalg.norm(kernel - plain) / np.linalg.norm(plain), rel=1e-4)
  assert sum(value > 0 for value in norms.values()) == 1
