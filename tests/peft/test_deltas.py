"""Deltas on a frozen base: they start as the base, reach only what their rule names, and count the paper's FLOPs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from posynda_jax.adaptation import adapt, tensors_file
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.peft import counting, deltas, lora
from posynda_jax.runtime import parallel
from tests import scene
from tests.adaptation.test_adaptation import batch

FRAMES = 3


@pytest.mark.parametrize("rule", deltas.RULES)
def test_zero_deltas_are_the_base_and_training_moves_only_what_the_rule_names(rule):
  model, base = scene.tiny_model(FRAMES)
  config = adapt.AdaptConfig(tune=rule, bias=False, learning_rate=1e-2)
  state = adapt.init_state(jax.random.key(0), base, config)
  assert "lora" not in state.adapter and set(state.adapter["delta"]) == {
      path for path in flatten_dict(base["params"], sep="/")
      if rule == "full" or rule == "biases" and path.endswith("bias") or rule == "norms" and "norm" in path
  }
  jax.tree.map(np.testing.assert_array_equal, adapt.merge(base, state.adapter, 1.0), base)
  step = parallel.make_parallel_step(
      functools.partial(adapt.adapt_step, model=model, config=config, rig=None, tx=adapt.make_optimizer(config)), jax.local_devices()[:1]
  )
  state, frozen, key = parallel.replicate((state, base, jax.random.key(1)), jax.local_devices()[:1])
  for _ in range(2):
    state, _ = step(state, frozen, parallel.shard(batch(), 1), key)
  tuned = flatten_dict(adapt.merge(base, state.adapter, 1.0)["params"], sep="/")
  moved = {path for path, leaf in flatten_dict(base["params"], sep="/").items() if not np.array_equal(leaf, tuned[path])}
  assert moved and moved <= set(state.adapter["delta"]) and not np.any(state.adapter["bias"])
  if rule != "full":
    assert moved == set(state.adapter["delta"])
  else:
    assert {"embed/kernel", "head/bias", "spatial_0/mlp_in/kernel"} <= moved


def test_what_does_not_fit_is_named():
  _, base = scene.tiny_model(FRAMES)
  with pytest.raises(ValueError, match="rule 'nothing' matches no parameter; the base has embed/bias"):
    deltas.init(base, "nothing")
  with pytest.raises(ValueError, match=r"delta head/bias has shape \(4,\), the base has \(3,\)"):
    deltas.add(base, {"head/bias": jnp.zeros(4)})
  with pytest.raises(ValueError, match=r"delta tail/bias has shape \(4,\), the base has nothing"):
    deltas.add(base, {"tail/bias": jnp.zeros(4)})
  with pytest.raises(ValueError, match="tune 'all' is unknown; choose one of lora, .*full, biases, norms"):
    adapt.AdaptConfig(tune="all")


def test_deltas_survive_a_safetensors_file(tmp_path):
  _, base = scene.tiny_model(FRAMES)
  adapter = {"delta": jax.tree.map(lambda x: x + 0.5, deltas.init(base, "norms")), "bias": jnp.ones((17, 3))}
  tensors_file.save_adapter(tmp_path / "norms.safetensors", adapter, "b" * 16, {"tune": "norms"})
  found, settings = tensors_file.load_adapter(tmp_path / "norms.safetensors", "b" * 16)
  jax.tree.map(np.testing.assert_array_equal, found, adapter)
  assert settings == {"tune": "norms"}


def test_flops_of_linear_layers_are_the_papers():
  """Table 3 in the paper's digits: 277.26 G, 278.88 G with r = 4, 836.65 G with H = 3."""
  model = make_model({"num_frames": 243})
  shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.float32)
  inputs = (shape(1, 243, 17, 2), shape(1, 243, 17, 3), jax.ShapeDtypeStruct((1,), jnp.int32))
  base = jax.eval_shape(model.init, jax.random.key(0), *inputs)
  adapter = jax.eval_shape(lambda: lora.init(jax.random.key(0), base, 4))
  plain, adapted = counting.linear_flops(model, base, {}, *inputs), counting.linear_flops(model, base, adapter, *inputs)
  assert [f"{flops / 1e9:.2f}" for flops in (plain, adapted, 3 * adapted)] == ["277.26", "278.88", "836.65"]
  assert adapted - plain == 2 * 243 * 17 * 4 * 49_152


def test_flops_of_convolutions():
  model = make_model({"denoiser": "videopose", "filter_widths": (3,), "channels": 4, "num_frames": 5})
  inputs = (jnp.zeros((1, 5, 17, 2)), jnp.zeros((1, 5, 17, 3)), jnp.zeros(1, jnp.int32))
  base = jax.eval_shape(model.init, jax.random.key(0), *inputs)
  adapter = jax.eval_shape(lambda: lora.init(jax.random.key(0), base, 2, r"expand_conv"))
  expand, shrink = 3 * 85, 51  # a window of 3 frames of 17 (2 + 3) numbers to 4 channels, and those to 17 x 3
  assert counting.linear_flops(model, base, {}, *inputs) == 2 * 5 * (expand * 4 + 4 * shrink)
  assert counting.linear_flops(model, base, adapter, *inputs) == 2 * 5 * (expand * 4 + 4 * shrink + 2 * (expand + 4))
