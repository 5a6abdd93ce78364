"""Parity with the reference implementations, through the public functions.

All sizes, depths, H, K, T, ranks and joint lists come from the files' own config and arrays, so another set of files
in the folder POSYNDA_GOLDEN passes unchanged. The tolerances are those that the files' README suggests.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from posynda_jax.adaptation import placement
from posynda_jax.diffusion import hypotheses, process, sampler
from posynda_jax.diffusion.mixste import MixSTE, time_sinusoid
from posynda_jax.geometry import camera, metrics, skeleton
from posynda_jax.interop import torch_names
from posynda_jax.peft import counting, lora
from tests import golden


def close(actual, desired, atol, message=""):
  np.testing.assert_allclose(actual, desired, atol=atol, rtol=0, err_msg=message)


def make_mixste(arrays: dict) -> MixSTE:
  """The denoiser of a file's config. Files of the original lifter have no noisy input."""
  config = arrays["config"]
  return MixSTE(
      num_joints=config["num_joints"], num_frames=config["num_frame"], width=config["embed_dim"], depth=config["depth"],
      num_heads=config["num_heads"], mlp_ratio=config["mlp_ratio"], diffusion="x_3d" in arrays,
  )


def over_hypotheses(denoise, arrays: dict):
  """The denoiser's outputs, vmapped over axis 1 of a file's noisy poses [b h f j 3]."""
  vmapped = jax.vmap(lambda noisy: denoise(arrays["x_2d"], noisy, arrays["t"]), in_axes=1, out_axes=1)
  return vmapped(jnp.asarray(arrays["x_3d"]))


def run(arrays: dict, params, **kwargs):
  """The model's output for a file's inputs, vmapped over hypotheses where there are any."""
  model = make_mixste(arrays)
  if not model.diffusion:
    return model.apply(params, arrays["x_2d"], **kwargs)
  return over_hypotheses(lambda *inputs: model.apply(params, *inputs, **kwargs), arrays)


@pytest.mark.parametrize("name, limit", [
    ("mixste_small", 1e-4), ("mixste_mid", 1e-4), ("mixste_full", 1e-4), ("mixste_orig_small", 2e-5),
    ("mixste_orig_full", 2e-5),
])
def test_golden_denoiser_output(name, limit):
  arrays = golden.load(name)
  state = golden.params(arrays)
  if "probe_name" in arrays:
    probe = state[str(arrays["probe_name"])].ravel()[: len(arrays["probe_first_values"])]
    np.testing.assert_array_equal(probe, arrays["probe_first_values"])
  close(run(arrays, torch_names.params_from_torch(state)), arrays["out"], limit)


@pytest.mark.parametrize("name", ["mixste_small", "mixste_orig_small"])
def test_golden_layer_norm_epsilons(name):
  arrays = golden.load(name)
  state = golden.params(arrays)
  for scaled in arrays["eps_probe/scaled_names"]:
    state[str(scaled)] = state[str(scaled)] * arrays["eps_probe/factor"].astype(np.float32)
  close(run(arrays, torch_names.params_from_torch(state)), arrays["eps_probe/out"], 1e-4)


@pytest.mark.parametrize("name", ["mixste_small", "mixste_mid", "mixste_orig_small"])
def test_golden_intermediate_activations(name):
  arrays = golden.load(name)
  model, (b, f, j, _) = make_mixste(arrays), arrays["x_2d"].shape
  params = torch_names.params_from_torch(golden.params(arrays))
  captured = run(arrays, params, capture_intermediates=lambda *_: True, mutable=["intermediates"])[1]["intermediates"]
  if model.diffusion:
    close(time_sinusoid(arrays["t"], model.width), arrays["act/time_sinusoid"], 3e-4)
    close(captured["time_out"]["__call__"][0][:, 0], arrays["act/time_embed"], 3e-4)

  def tokens(module, call=0):  # [(b f j) h d], or [(b f j) d] of the original lifter, as [b h f j d]
    return np.asarray(captured[module]["__call__"][call]).reshape(b, f, j, -1, model.width).transpose(0, 3, 1, 2, 4)

  close(tokens("spatial_0").reshape(-1, j, model.width), arrays["act/ste0_block"], 3e-4)
  close(tokens("temporal_0").swapaxes(2, 3).reshape(-1, f, model.width), arrays["act/tte0_block"], 3e-4)
  close(tokens("temporal_norm", -1).reshape(-1, f, j, model.width), arrays["act/pre_head"], 3e-4)


def load_lora():
  """The arrays of the file, those of its base, and both as our trees."""
  arrays = golden.load("lora_small")
  base_arrays = golden.load(arrays["config"]["base"].removesuffix(".npz"))
  base = torch_names.params_from_torch(golden.params(base_arrays))
  return arrays, base_arrays, base, torch_names.lora_from_torch(golden.part(arrays, "lora/"))


def test_golden_lora_targets_are_the_injected_layers():
  arrays, _, base, adapter = load_lora()
  expected = {torch_names.module_path(str(name)) for name in arrays["injected_names"]}
  assert set(lora.targets(base)) == expected == set(adapter)
  new = lora.init(jax.random.key(0), base, rank=arrays["config"]["r"])
  assert counting.count(new) == int(arrays["n_trainable"])
  assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, adapter)


@pytest.mark.parametrize("is_merged", [False, True])
@pytest.mark.parametrize("key, factor", [("out", 1), ("out_scale_half", 1 / 2)])
def test_golden_lora_output(is_merged, key, factor):
  arrays, inputs, base, adapter = load_lora()
  scale = factor * arrays["config"]["scale"]
  if is_merged:
    base, adapter = lora.merge(base, adapter, scale), None
  close(over_hypotheses(lora.bind(make_mixste(inputs), base, adapter, scale), inputs), arrays[key], 1e-4)


def test_golden_lora_loss_and_gradients():
  arrays, inputs, base, adapter = load_lora()

  def loss_fn(adapter):
    denoise = lora.bind(make_mixste(inputs), base, adapter, arrays["config"]["scale"])
    return ((over_hypotheses(denoise, inputs) - arrays["target"]) ** 2).mean()

  loss, grads = jax.value_and_grad(loss_fn)(adapter)
  close(loss, arrays["loss"], 1e-5)
  expected = flatten_dict(torch_names.lora_from_torch(golden.part(arrays, "grad/")), sep=":")
  for path, value in expected.items():
    close(flatten_dict(grads, sep=":")[path], value, 1e-3 * np.abs(value).max(), path)


def test_golden_schedule():
  arrays = golden.load("diffusion_schedule")
  for case in golden.cases(arrays, "betas"):
    schedule = process.cosine_schedule(int(case.removeprefix("T")), arrays["config"]["s"])
    for name, value in {
        "betas": schedule.betas, "alphas_cumprod": schedule.alpha_bar,
        "sqrt_alphas_cumprod": np.sqrt(schedule.alpha_bar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - schedule.alpha_bar),
    }.items():
      np.testing.assert_allclose(value, arrays[f"{case}/{name}"], atol=1e-12, rtol=1e-12, err_msg=f"{case} {name}")
    steps = process.ddim_steps(schedule, schedule.num_steps)  # all steps, so sigma^2 is the posterior variance
    for name, value in {
        "sqrt_recip_alphas_cumprod": steps.recip, "sqrt_recipm1_alphas_cumprod": steps.recipm1,
        "posterior_variance": np.float64(steps.sigma) ** 2,
    }.items():
      np.testing.assert_allclose(value, arrays[f"{case}/{name}"][::-1], rtol=1e-6, err_msg=f"{case} {name}")


def test_golden_sampling_times():
  for key, times in golden.part(golden.load("diffusion_schedule"), "times/").items():
    num_steps, num_iterations = (int(part[1:]) for part in key.split("_"))
    np.testing.assert_array_equal(process.ddim_times(num_steps, num_iterations), times, err_msg=key)


def test_golden_q_sample():
  arrays = golden.load("diffusion_qsample")
  schedule = process.cosine_schedule(arrays["config"]["T"])
  x_t = process.q_sample(schedule, arrays["x0"], arrays["t"], arrays["noise"])
  close(x_t, arrays["x_t"], 1e-5)
  close(process.clamp(x_t), arrays["denoiser_input"], 1e-5)


def test_golden_sampler():
  arrays = golden.load("diffusion_ddim")
  base_arrays = golden.load(arrays["config"]["denoiser"].removesuffix(".npz"))
  params, model = torch_names.params_from_torch(golden.params(base_arrays)), make_mixste(base_arrays)
  left, right = arrays["joints_left"].tolist(), arrays["joints_right"].tolist()
  np.testing.assert_array_equal(skeleton.flip(arrays["x_2d"], left, right), arrays["x_2d_flip"])
  for case in golden.cases(arrays, "times"):
    denoise = functools.partial(model.apply, params)
    if case.startswith("flip"):
      denoise = sampler.with_flip(denoise, left, right)
    times, schedule = arrays[f"{case}/times"], process.cosine_schedule(int(arrays[f"{case}/T"]))
    steps = process.ddim_steps(schedule, len(times) - 1, arrays["config"]["eta"])
    np.testing.assert_array_equal(steps.t, times[:-1])
    over_hypotheses = jax.vmap(
        lambda init, noise: sampler.sample(denoise, arrays["x_2d"], init, steps, noise), in_axes=(1, 2), out_axes=2
    )
    history = over_hypotheses(arrays[f"{case}/init_noise"], arrays[f"{case}/step_noise"])
    for name, value in history.items():
      close(value, arrays[f"{case}/{name}"], 5e-4, f"{case} {name}")
    if f"{case}/returned_mm" in arrays:
      close(1000 * jnp.moveaxis(history["pred_x0"], 0, 1), arrays[f"{case}/returned_mm"], 0.5)


def test_golden_basic_metrics():
  arrays = golden.load("metrics_basic")
  pred, target, p_pred, p_target = (jnp.asarray(arrays[name]) for name in ("pred", "target", "p_pred", "p_target"))
  for name, value in {
      "mpjpe": metrics.mpjpe(pred, target).mean(),
      "mpjpe_per_joint": metrics.joint_errors(pred, target),
      "weighted_mpjpe": (arrays["weights"] * metrics.joint_errors(pred, target)).mean(),
      "n_mpjpe": metrics.n_mpjpe(arrays["n_mpjpe_pred_factor"] * pred, target).mean(),
      "p_mpjpe_per_frame": metrics.p_mpjpe(p_pred, p_target),
      "p_mpjpe": metrics.p_mpjpe(p_pred, p_target).mean(),
      "mean_velocity_error": metrics.mpjve(pred[0], target[0]).mean(),
  }.items():
    close(value, arrays[name], 1e-5, name)


def test_golden_hypothesis_aggregations():
  arrays = golden.load("metrics_multihyp")
  target, valid = jnp.asarray(arrays["target"]), arrays["valid"][..., 0]
  intrinsics = jnp.broadcast_to(arrays["camera"], (len(target), arrays["camera"].shape[-1]))
  roots = jnp.asarray(arrays["traj"])[None, ..., 0, :]
  for k in range(arrays["pred"].shape[1]):
    poses = jnp.moveaxis(jnp.asarray(arrays["pred"][:, k]), 1, 0)  # h b f j 3
    points = jnp.moveaxis(poses + roots[..., None, :], 0, 1)
    close(camera.project(points, intrinsics), arrays["reproj_2d"][:, k], 1e-5)
    errors_2d = hypotheses.reprojection_error(poses, roots, arrays["target_2d"], intrinsics)
    index = hypotheses.choose(errors_2d, jnp.ones(errors_2d.shape[1:]), "joint")
    # All hypotheses project the root alike, so rounding chooses there.
    np.testing.assert_array_equal(index[..., 1:], arrays["j_agg_index"][:, k][..., 1:])
    close(hypotheses.pick(poses, index), arrays["j_agg_pose"][:, k], 1e-5)
    for align, prefix in ((False, ""), (True, "p2_")):
      for name, value in hypotheses.aggregate(poses, target, errors_2d, align=align).items():
        close(value.mean(), arrays[f"{prefix}{name}"][k], 1e-5, f"{prefix}{name}")
    masked = hypotheses.aggregate(poses, target, valid=jnp.asarray(valid))
    for name in ("p_best", "p_agg"):
      close(masked[name][valid].mean(), arrays[f"dhp_{name}"][k], 1e-5, f"dhp_{name}")


def test_golden_3dhp_scores_of_joints_and_groups():
  arrays = golden.load("metrics_3dhp")
  sizes, flat, thresholds = arrays["joint_group_sizes"], arrays["joint_groups_flat"], arrays["thresholds"]
  groups = [*np.split(flat, np.cumsum(sizes)[:-1]), flat]
  root = skeleton.ORDERS["dhp17"][skeleton.ROOT]
  for i in range(arrays["config"]["n_seq"]):
    pred, gt, valid = (arrays[f"seq{i}/{name}"] for name in ("pred", "gt", "valid"))
    errors = np.asarray(metrics.joint_errors(jnp.asarray(pred), skeleton.root_centre(jnp.asarray(gt), root)))[valid]
    close(errors.mean(0), arrays["mpjpe_per_joint"][i], 1e-3)
    close([metrics.pck(errors[:, group], metrics.PCK_MM).mean() for group in groups], arrays["pck"][i], 1e-3)
    close([metrics.auc(errors[:, group], thresholds).mean() for group in groups], arrays["auc"][i], 1e-3)


def test_golden_cameras():
  arrays = golden.load("camera_ops")
  for case in golden.cases(arrays, "wh"):
    px, wh, normalised = (arrays[f"{case}/{name}"] for name in ("pixels", "wh", "normalised"))
    close(camera.normalise_screen(px, wh), normalised, 1e-5)
    close(camera.unnormalise_screen(normalised, wh), arrays[f"{case}/pixels_back"], 1e-2)
  q, position = arrays["quat"], arrays["translation"]
  close(camera.world_to_camera(arrays["world"], q, position), arrays["camera"], 1e-5)
  close(camera.camera_to_world(jnp.asarray(arrays["camera"]), q, position), arrays["world_back"], 1e-5)
  for unit, limit in (("px", 1e-2), ("norm", 1e-5)):
    case, points = golden.part(arrays, f"proj_{unit}/"), jnp.asarray(arrays["points"])
    full, pull = jax.vjp(lambda points: camera.project(points, case["intrinsics"]), points)
    close(full, case["full"], limit)
    close(camera.project_linear(points, case["intrinsics"]), case["linear"], limit)
    close(pull(case["cotangent"])[0], case["full_vjp"], 1e-4 * np.abs(case["full_vjp"]).max())
  for case in golden.cases(arrays, "mm"):
    mm, size = jnp.asarray(arrays[f"{case}/mm"]), jnp.asarray(arrays[f"{case}/res_and_sensor"])
    close(camera.intrinsics_from_sensor(mm, size), arrays[f"{case}/px"], 1e-2)


def test_golden_position_alignment():
  arrays = golden.load("gpa_redistribution")
  for name in golden.cases(arrays, "perm"):
    case = golden.part(arrays, f"{name}/")
    source, target = case["source_3d"], case["target_2d"]
    if len(source) <= len(target):
      target = target[case["perm"]]
    else:
      source = source[case["perm"]]
    intrinsics = jnp.broadcast_to(case["camera"], (len(source), case["camera"].shape[-1]))
    placed = placement.place(jnp.asarray(source)[:, None], jnp.asarray(target)[:, None], intrinsics)
    np.testing.assert_allclose(placed[:, 0], case["out_3d"], atol=1e-5, rtol=1e-5, err_msg=name)
