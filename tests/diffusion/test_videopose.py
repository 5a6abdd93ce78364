"""Laws of VideoPose: parity, padding, its statistics as state, and adapters on convolutions."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.diffusion import process, sampler
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.diffusion.videopose import VideoPose
from posynda_jax.geometry import skeleton
from posynda_jax.interop import torch_names
from posynda_jax.peft import counting, lora
from tests import golden, scene
from tests.tolerance import assert_close

FRAMES = 9


@functools.cache
def tiny(**fields) -> tuple[VideoPose, dict]:
  """A denoiser of 16 channels and a receptive field of 9 frames, with random parameters and statistics."""
  model = VideoPose(**{"num_frames": FRAMES, "filter_widths": (3, 3), "channels": 16, **fields})
  shapes = jax.eval_shape(model.init, jax.random.key(1), *inputs(model.num_frames))
  rng = np.random.default_rng(0)

  def value(path, leaf):
    around = {"scale": 1.0, "var": 1.0}.get(path[-1].key, 0.0)
    spread = math.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.1
    return (around + spread * rng.uniform(-1, 1, leaf.shape)).astype(np.float32)

  return model, jax.tree_util.tree_map_with_path(value, shapes)


@functools.partial(jax.jit, static_argnames=("model", "pad"))
def apply(model: VideoPose, variables, *inputs, pad: bool = True):
  return model.apply(variables, *inputs, pad=pad)


def inputs(num_frames: int = FRAMES, num_clips: int = 2):
  poses = (scene.poses((num_clips, num_frames), seed) for seed in (0, 1))
  return next(poses)[..., :2], next(poses), np.linspace(3, 900, num_clips).astype(np.int32)


def test_golden_plain_videopose_without_padding():
  arrays = golden.load("videopose_small")
  config, state = arrays["config"], golden.params(arrays)
  model = make_model({
      "denoiser": "videopose", "diffusion": False, "num_joints": arrays["x_2d"].shape[2], "num_frames": config["T"],
      **{name: config[name] for name in ("filter_widths", "channels", "causal")},
  })
  assert model.receptive_field == config["receptive_field"]
  out = apply(model, torch_names.params_from_torch(state), arrays["x_2d"], pad=False)
  np.testing.assert_allclose(out, arrays["out"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("widths, causal", [((3, 5), True), ((5, 1, 3), False)])
def test_padding_repeats_the_first_and_the_last_frame(widths, causal):
  model, variables = tiny(filter_widths=widths, causal=causal, num_frames=31)
  keypoints, noisy, t = inputs(31)
  before, after = (14, 0) if causal else (7, 7)  # the reference's pad and causal shift, by hand

  def padded(x):
    return np.concatenate([x[:, :1]] * before + [x] + [x[:, 30:]] * after, axis=1)

  by_hand = apply(model, variables, padded(keypoints), padded(noisy), t, pad=False)
  assert model.receptive_field == 15 and by_hand.shape == (2, 31, 17, 3)
  assert_close(apply(model, variables, keypoints, noisy, t), by_hand)


@pytest.mark.parametrize("causal, reached", [(True, range(15, 24)), (False, range(11, 20))])
def test_an_output_depends_on_its_receptive_field_alone_and_a_causal_one_on_no_later_frame(causal, reached):
  keypoints, noisy, t = inputs(30)
  changed = noisy + (np.arange(30) == 15)[:, None, None]
  model, variables = tiny(causal=causal)
  before, after = (np.asarray(apply(model, variables, keypoints, x, t)) for x in (noisy, np.float32(changed)))
  assert np.flatnonzero((before != after).any((0, 2, 3))).tolist() == list(reached)


@pytest.mark.parametrize("diffusion", [True, False])
def test_time_and_noise_change_the_denoiser_and_not_the_plain_lifter(diffusion):
  (model, variables), (keypoints, noisy, t) = tiny(diffusion=diffusion), inputs()
  out = apply(model, variables, keypoints, noisy, t)
  for other in ((keypoints, noisy + np.float32(0.1), t), (keypoints, noisy, t + 50)):
    assert (np.abs(apply(model, variables, *other) - out).max() > 1e-4) == diffusion
  assert ("time_in" in variables["params"]) == diffusion


def test_training_normalises_by_the_batch_and_moves_the_average_by_a_tenth():
  model, variables = tiny(axis_name=None, dropout=0.0)
  keypoints, noisy, t = inputs()

  @functools.partial(jax.jit, static_argnums=0)
  def train(dropout):
    rngs = {"dropout": jax.random.key(0)}
    return model.clone(dropout=dropout).apply(
        variables, keypoints, noisy, t, train=True, mutable=["batch_stats"], rngs=rngs)

  (out, moved), (dropped, _) = train(0.0), train(0.25)
  x = np.concatenate([keypoints, noisy], -1, dtype=np.float64).reshape(2, FRAMES, -1)
  x = np.pad(x, ((0, 0), (4, 4), (0, 0)), mode="edge")
  y = sum(x[:, i : i + 15] @ variables["params"]["expand_conv"]["kernel"][i] for i in range(3))
  for name, now in (("mean", y.mean((0, 1))), ("var", y.var((0, 1)))):
    expected = 0.9 * variables["batch_stats"]["expand_bn"][name] + 0.1 * now
    np.testing.assert_allclose(moved["batch_stats"]["expand_bn"][name], expected, rtol=1e-4, atol=1e-5)
  for other in (apply(model, variables, keypoints, noisy, t), dropped):
    assert np.abs(out - other).max() > 1e-3


@functools.cache
def make_update(num_devices: int):
  """One step of gradient descent on labelled clips, shared by devices that vmap stands for."""
  model, _ = tiny(filter_widths=(3,))

  def update(variables, keypoints, noise, t, target):
    def loss(params):
      out, moved = model.apply(
          variables | {"params": params}, keypoints, noise, t, train=True, mutable=["batch_stats"],
          rngs={"dropout": jax.random.key(1)},
      )
      return ((out - target) ** 2).mean(), moved

    grads, moved = jax.grad(loss, has_aux=True)(variables["params"])
    grads = jax.lax.pmean(grads, model.axis_name)
    return {"params": jax.tree.map(lambda p, g: p - 0.3 * g, variables["params"], grads)} | moved

  shared = jax.vmap(update, in_axes=(None, 0, 0, 0, 0), axis_name=model.axis_name)
  split = [x.reshape(num_devices, -1, *x.shape[1:]) for x in (*inputs(num_clips=8), truth())]
  return jax.jit(lambda variables: jax.tree.map(lambda leaf: leaf[0], shared(variables, *split)))


def truth():
  return skeleton.root_centre(scene.poses((8, FRAMES)))


def test_devices_share_statistics_dropout_and_update_and_training_lowers_the_error():
  model, start = tiny(filter_widths=(3,))
  alone, shared = (make_update(num_devices)(start) for num_devices in (1, 4))
  assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), alone, start)))
  assert_close(shared, alone, updates=1)

  def error(variables):
    return np.linalg.norm(apply(model, variables, *inputs(num_clips=8)) - truth(), axis=-1).mean()

  for _ in range(100):
    alone = make_update(1)(alone)
  assert error(alone) < 0.6 * error(start)


@pytest.mark.parametrize("rule, pad", [(lora.EVERYWHERE, True), (lora.CONVOLUTIONS, False)])
def test_factorised_equals_merged(rule, pad):
  model, base = tiny(causal=True)
  shapes = jax.eval_shape(lambda: lora.init(jax.random.key(0), base, 2, rule))
  adapter = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, np.float32), shapes)
  factorised = jax.jit(lambda adapter: lora.bind(model, base, adapter, 0.5)(*inputs(18), pad=pad))(adapter)
  merged, without = (apply(model, one, *inputs(18), pad=pad) for one in (lora.merge(base, adapter, 0.5), base))
  np.testing.assert_allclose(factorised, merged, atol=1e-4)
  assert np.abs(factorised - without).max() > 1e-3


def test_an_adapter_of_convolutions_holds_neither_the_output_layer_nor_statistics():
  _, base = tiny(filter_widths=(3, 3, 3), num_frames=14)
  names = {"expand_conv", "conv_0", "conv_1", "conv_2", "conv_3"}
  assert set(lora.targets(base, lora.CONVOLUTIONS)) == names
  adapter = jax.eval_shape(lambda: lora.init(jax.random.key(0), base, 2, lora.CONVOLUTIONS))
  size = {name: base["params"][name]["kernel"].shape for name in names}
  assert counting.count(adapter) == sum(2 * (width * inside + outside) for width, inside, outside in size.values())


def test_a_plain_lifters_hypotheses_agree():
  (model, base), (keypoints, *_) = tiny(diffusion=False), inputs()
  steps = process.ddim_steps(process.cosine_schedule(1000), 2)
  keys, denoise = jax.random.split(jax.random.key(0), 2), functools.partial(model.apply, base)
  poses = jax.jit(lambda keys: sampler.propose(keys, denoise, keypoints, steps, 3))(keys)
  assert_close(poses, jnp.stack([process.clamp(apply(model, base, *inputs()))] * 3))


@pytest.mark.parametrize("fields, message", [
    ({"filter_widths": [3, 4]}, "filter widths 3,4 are not all odd"),
    ({"filter_widths": []}, "filter widths of no number"),
    ({"channels": 15}, "channels 15 are not an even number"),
    ({"dropout": 1.0}, "dropout 1.0 is not a rate"),
    ({"filter_widths": [3, 3, 3], "num_frames": 9}, "3,3,3 reach 13 frames away, .* has 9: .* 14 frames or more"),
    ({"filter_widths": [3, 3], "num_frames": 8, "causal": True}, "reach 8 frames away, but a clip has 8"),
    ({"denoiser": "transformer"}, "denoiser 'transformer' is unknown; choose one of mixste, videopose"),
    ({"depth": 3}, "model config has depth, which videopose does not; it has .*channels"),
])
def test_a_config_without_a_valid_model_is_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    make_model({"denoiser": "videopose", **fields})


def test_fewer_frames_than_the_receptive_field_need_padding():
  model, variables = tiny()
  with pytest.raises(ValueError, match="without it give 9 or more"):
    jax.eval_shape(functools.partial(model.apply, pad=False), variables, *inputs(8))
