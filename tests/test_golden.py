"""Parity with the reference implementations, through the public functions.

Every size, depth, H, K, T, rank and joint list comes from the files' own config and arrays: another set of files in the folder
that POSYNDA_GOLDEN names must pass unchanged. The limits are those the files' README suggests.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from posynda_jax.adaptation import synthesis
from posynda_jax.diffusion import hypotheses, process, sampler
from posynda_jax.diffusion.mixste import MixSTE, time_sinusoid
from posynda_jax.geometry import camera, metrics, skeleton
from posynda_jax.interop import torch_names
from posynda_jax.peft import counting, lora
from tests import golden


def make_mixste(arrays: dict) -> MixSTE:
  """The denoiser of a file's config; files of the original lifter have no noisy input."""
  config = arrays["config"]
  return MixSTE(
      num_joints=config["num_joints"], num_frames=config["num_frame"], width=config["embed_dim"], depth=config["depth"],
      num_heads=config["num_heads"], mlp_ratio=config["mlp_ratio"], diffusion="x_3d" in arrays,
  )


def over_hypotheses(denoise, arrays: dict):
  """The denoiser's answers [b h f j 3] to a file's inputs."""
  by_hypothesis = lambda noisy: denoise(arrays["x_2d"], noisy, arrays["t"])
  return jax.vmap(by_hypothesis, in_axes=1, out_axes=1)(jnp.asarray(arrays["x_3d"]))


def answer(arrays: dict, params):
  model = make_mixste(arrays)
  if "x_3d" not in arrays:
    return model.apply(params, arrays["x_2d"])
  return over_hypotheses(lambda *inputs: model.apply(params, *inputs), arrays)


@pytest.mark.parametrize(
    "name, limit",
    [("mixste_small", 1e-4), ("mixste_mid", 1e-4), ("mixste_full", 1e-4), ("mixste_orig_small", 2e-5), ("mixste_orig_full", 2e-5)],
)
def test_golden_denoiser_output(name, limit):
  arrays = golden.load(name)
  state = golden.params(arrays)
  if "probe_name" in arrays:
    probe = state[str(arrays["probe_name"])].ravel()[: len(arrays["probe_first_values"])]
    np.testing.assert_array_equal(probe, arrays["probe_first_values"])
  out = answer(arrays, torch_names.params_from_torch(state))
  np.testing.assert_allclose(out, arrays["out"], atol=limit, rtol=0)


@pytest.mark.parametrize("name", ["mixste_small", "mixste_orig_small"])
def test_golden_layer_norm_epsilons(name):
  arrays = golden.load(name)
  state = golden.params(arrays)
  for scaled in arrays["eps_probe/scaled_names"]:
    state[str(scaled)] = state[str(scaled)] * arrays["eps_probe/factor"].astype(np.float32)
  out = answer(arrays, torch_names.params_from_torch(state))
  np.testing.assert_allclose(out, arrays["eps_probe/out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["mixste_small", "mixste_mid", "mixste_orig_small"])
def test_golden_intermediate_activations(name):
  arrays = golden.load(name)
  params = torch_names.params_from_torch(golden.params(arrays))
  model = make_mixste(arrays)
  b, f, j, _ = arrays["x_2d"].shape
  capture = lambda module, method: True
  run = lambda *inputs: model.apply(params, *inputs, capture_intermediates=capture, mutable=["intermediates"])[1]
  if model.diffusion:
    seen = jax.vmap(lambda noisy: run(arrays["x_2d"], noisy, arrays["t"]), in_axes=1, out_axes=1)(jnp.asarray(arrays["x_3d"]))
    batch = b * arrays["x_3d"].shape[1]
    np.testing.assert_allclose(time_sinusoid(arrays["t"], model.width), arrays["act/time_sinusoid"], atol=3e-4)
    time_embed = seen["intermediates"]["time_out"]["__call__"][0]
    np.testing.assert_allclose(time_embed[:, 0], arrays["act/time_embed"], atol=3e-4)
  else:
    seen, batch = run(arrays["x_2d"]), b
  seen = seen["intermediates"]
  # Tokens [(b f j) h d], or [(b f j) d] of the original lifter, as [(b h) f j d].
  tokens = lambda x: np.asarray(x).reshape(b, f, j, -1, model.width).transpose(0, 3, 1, 2, 4).reshape(batch, f, j, -1)
  spatial = tokens(seen["spatial_0_out"][0]).reshape(-1, j, model.width)
  temporal = tokens(seen["temporal_0_out"][0]).transpose(0, 2, 1, 3).reshape(-1, f, model.width)
  pre_head = tokens(seen["temporal_norm"]["__call__"][-1])
  np.testing.assert_allclose(spatial, arrays["act/ste0_block"], atol=3e-4)
  np.testing.assert_allclose(temporal, arrays["act/tte0_block"], atol=3e-4)
  np.testing.assert_allclose(pre_head, arrays["act/pre_head"], atol=3e-4)


def load_lora():
  arrays = golden.load("lora_small")
  base_arrays = golden.load(arrays["config"].get("base", "mixste_small.npz").removesuffix(".npz"))
  stored = {k.removeprefix("lora/"): v for k, v in arrays.items() if k.startswith("lora/")}
  base = torch_names.params_from_torch(golden.params(base_arrays))
  return arrays, base_arrays, base, torch_names.lora_from_torch(stored)


def test_golden_lora_targets_are_the_injected_layers():
  arrays, _, base, adapter = load_lora()
  expected = {torch_names.module_path(str(name)) for name in arrays["injected_names"]}
  assert set(lora.targets(base)) == expected == set(adapter)
  fresh = lora.init(jax.random.key(0), base, rank=arrays["config"]["r"])
  assert counting.count(fresh) == int(arrays["n_trainable"])
  assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, adapter)


@pytest.mark.parametrize("form", ["factorised", "merged"])
@pytest.mark.parametrize("key, scale", [("out", 1.0), ("out_scale_half", 0.5)])
def test_golden_lora_output(form, key, scale):
  arrays, inputs, base, adapter = load_lora()
  model = make_mixste(inputs)
  if form == "factorised":
    denoise = lora.bind(model, base, adapter, scale)
  else:
    denoise = lora.bind(model, lora.merge(base, adapter, scale), None)
  np.testing.assert_allclose(over_hypotheses(denoise, inputs), arrays[key], atol=1e-4, rtol=0)


def test_golden_lora_loss_and_gradients():
  arrays, inputs, base, adapter = load_lora()
  model = make_mixste(inputs)

  def loss_fn(adapter):
    return ((over_hypotheses(lora.bind(model, base, adapter), inputs) - arrays["target"]) ** 2).mean()

  loss, grads = jax.value_and_grad(loss_fn)(adapter)
  np.testing.assert_allclose(loss, arrays["loss"], atol=1e-5)
  expected = torch_names.lora_from_torch({k.removeprefix("grad/"): v for k, v in arrays.items() if k.startswith("grad/")})
  for path, value in flatten_dict(expected, sep=":").items():
    np.testing.assert_allclose(flatten_dict(grads, sep=":")[path], value, atol=1e-3 * np.abs(value).max(), err_msg=path)


def schedule_sizes(arrays: dict) -> list[int]:
  return sorted({int(key.split("/")[0][1:]) for key in arrays if key.endswith("/betas")})


def test_golden_schedule():
  arrays = golden.load("diffusion_schedule")
  assert schedule_sizes(arrays)
  for num_steps in schedule_sizes(arrays):
    schedule = process.cosine_schedule(num_steps)
    ours = {
        "betas": schedule.betas, "alphas_cumprod": schedule.alpha_bar, "sqrt_alphas_cumprod": schedule.sqrt_alpha_bar,
        "sqrt_one_minus_alphas_cumprod": schedule.sqrt_one_minus_alpha_bar, "posterior_variance": schedule.posterior_variance,
        "sqrt_recip_alphas_cumprod": schedule.sqrt_recip_alpha_bar, "sqrt_recipm1_alphas_cumprod": schedule.sqrt_recipm1_alpha_bar,
    }
    for name, value in ours.items():
      expected = arrays[f"T{num_steps}/{name}"]
      np.testing.assert_allclose(value, expected, atol=1e-12, rtol=1e-12, err_msg=f"T={num_steps} {name}")


def test_golden_sampling_times():
  arrays = golden.load("diffusion_schedule")
  for key in (key for key in arrays if key.startswith("times/")):
    num_steps, num_iterations = (int(part[1:]) for part in key.removeprefix("times/").split("_"))
    np.testing.assert_array_equal(process.ddim_times(num_steps, num_iterations), arrays[key], err_msg=key)


def test_golden_q_sample():
  arrays = golden.load("diffusion_qsample")
  num_steps = arrays.get("config", {}).get("T", 1000)
  x_t = process.q_sample(process.cosine_schedule(num_steps), arrays["x0"], arrays["t"], arrays["noise"])
  np.testing.assert_allclose(x_t, arrays["x_t"], atol=1e-5)
  np.testing.assert_allclose(process.clamp(x_t), arrays["denoiser_input"], atol=1e-5)


def ddim_cases(arrays: dict) -> list[str]:
  return sorted(key.removesuffix("/times") for key in arrays if key.endswith("/times"))


def test_golden_sampler():
  arrays, base_arrays = golden.load("diffusion_ddim"), golden.load("mixste_small")
  params = torch_names.params_from_torch(golden.params(base_arrays))
  model = make_mixste(base_arrays)
  left, right = arrays["joints_left"].tolist(), arrays["joints_right"].tolist()
  np.testing.assert_allclose(skeleton.flip(arrays["x_2d"], left, right), arrays["x_2d_flip"], atol=1e-6)
  assert ddim_cases(arrays)
  for case in ddim_cases(arrays):
    denoise = lambda *inputs: model.apply(params, *inputs)
    if case.startswith("flip"):
      denoise = sampler.with_flip(denoise, left, right)
    num_iterations = len(arrays[f"{case}/times"]) - 1
    steps = process.ddim_steps(process.cosine_schedule(int(arrays[f"{case}/T"])), num_iterations)
    np.testing.assert_array_equal(steps.t, arrays[f"{case}/times"][:-1])
    run = lambda init, noise: sampler.sample(denoise, arrays["x_2d"], init, steps, noise)
    history = jax.vmap(run, in_axes=(1, 2), out_axes=2)(arrays[f"{case}/init_noise"], arrays[f"{case}/step_noise"])
    for name in ("x_t", "pred_x0", "pred_noise"):
      np.testing.assert_allclose(history[name], arrays[f"{case}/{name}"], atol=5e-4, err_msg=f"{case} {name}")
    if f"{case}/returned_mm" in arrays:
      returned = 1000 * jnp.moveaxis(history["pred_x0"], 0, 1)
      np.testing.assert_allclose(returned, arrays[f"{case}/returned_mm"], atol=0.5)


def test_golden_basic_metrics():
  arrays = golden.load("metrics_basic")
  pred, target = jnp.asarray(arrays["pred"]), jnp.asarray(arrays["target"])
  close = lambda ours, name: np.testing.assert_allclose(ours, arrays[name], atol=1e-5, err_msg=name)
  close(metrics.mpjpe(pred, target).mean(), "mpjpe")
  close(metrics.joint_errors(pred, target), "mpjpe_per_joint")
  close((arrays["weights"] * metrics.joint_errors(pred, target)).mean(), "weighted_mpjpe")
  close(metrics.n_mpjpe(arrays["n_mpjpe_pred_factor"] * pred, target).mean(), "n_mpjpe")
  close(metrics.p_mpjpe(jnp.asarray(arrays["p_pred"]), jnp.asarray(arrays["p_target"])), "p_mpjpe_per_frame")
  close(metrics.p_mpjpe(jnp.asarray(arrays["p_pred"]), jnp.asarray(arrays["p_target"])).mean(), "p_mpjpe")
  close(metrics.mpjve(pred[0], target[0]).mean(), "mean_velocity_error")


def test_golden_hypothesis_aggregations():
  arrays = golden.load("metrics_multihyp")
  target, valid = jnp.asarray(arrays["target"]), arrays["valid"][..., 0]
  num_iterations = arrays["pred"].shape[1]
  intrinsics = jnp.broadcast_to(arrays["camera"], (len(target), 9))
  for k in range(num_iterations):
    poses = jnp.moveaxis(jnp.asarray(arrays["pred"][:, k]), 1, 0)  # h b f j 3
    roots = jnp.asarray(arrays["traj"])[None, ..., 0, :]
    points = jnp.moveaxis(poses + roots[..., None, :], 0, 1)
    np.testing.assert_allclose(camera.project(points, intrinsics), arrays["reproj_2d"][:, k], atol=1e-5)
    errors_2d = hypotheses.reprojection_error(poses, roots, arrays["target_2d"], intrinsics)
    index = hypotheses.choose(errors_2d, jnp.ones(errors_2d.shape[1:]), "joint")
    # Joint by joint, but for the root of all-equal projections, where only rounding decides.
    np.testing.assert_array_equal(index[..., 1:], arrays["j_agg_index"][:, k][..., 1:])
    np.testing.assert_allclose(hypotheses.pick(poses, index), arrays["j_agg_pose"][:, k], atol=1e-5)
    for align, prefix in ((False, ""), (True, "p2_")):
      result = hypotheses.aggregate(poses, target, errors_2d, align=align)
      for name, value in result.items():
        np.testing.assert_allclose(value.mean(), arrays[f"{prefix}{name}"][k], atol=1e-5, err_msg=f"{prefix}{name}")
    masked = hypotheses.aggregate(poses, target, valid=jnp.asarray(valid))
    for name in ("p_best", "p_agg"):
      np.testing.assert_allclose(masked[name][valid].mean(), arrays[f"dhp_{name}"][k], atol=1e-5, err_msg=f"dhp_{name}")


def test_golden_3dhp_scores():
  arrays = golden.load("metrics_3dhp")
  sizes, flat, thresholds = arrays["joint_group_sizes"], arrays["joint_groups_flat"], arrays["thresholds"]
  groups = [*np.split(flat, np.cumsum(sizes)[:-1]), flat]
  root = 14  # pelvis, in 3DHP order
  pooled, per_sequence = [], []
  for i in range(len(arrays["mpjpe"])):
    pred, gt, valid = (arrays[f"seq{i}/{name}"] for name in ("pred", "gt", "valid"))
    errors = np.asarray(metrics.joint_errors(jnp.asarray(pred), skeleton.root_centre(jnp.asarray(gt), root)))[valid]
    pooled.append(errors)
    np.testing.assert_allclose(errors.mean(0), arrays["mpjpe_per_joint"][i], atol=1e-3)
    rows = [(metrics.pck(errors[:, g], metrics.PCK_MM).mean(), metrics.auc(errors[:, g], thresholds).mean()) for g in groups]
    np.testing.assert_allclose([row[0] for row in rows], arrays["pck"][i], atol=1e-3)
    np.testing.assert_allclose([row[1] for row in rows], arrays["auc"][i], atol=1e-3)
    per_sequence.append((errors.mean(), *rows[-1]))
  np.testing.assert_allclose(np.mean(per_sequence, 0), arrays["mean_over_seq"], atol=1e-3)
  errors = np.concatenate(pooled)
  np.testing.assert_allclose(errors.mean(), arrays["pooled_mpjpe"], atol=1e-3)
  np.testing.assert_allclose([metrics.pck(errors[:, g], metrics.PCK_MM).mean() for g in groups], arrays["pooled_pck"], atol=1e-3)
  np.testing.assert_allclose([metrics.auc(errors[:, g]).mean() for g in groups], arrays["pooled_auc"], atol=1e-3)


def test_golden_cameras():
  arrays = golden.load("camera_ops")
  for name in sorted({key.split("/")[0] for key in arrays if key.startswith("screen_")}):
    px, wh, normalised = (arrays[f"{name}/{part}"] for part in ("pixels", "wh", "normalised"))
    np.testing.assert_allclose(camera.normalise_screen(px, wh), normalised, atol=1e-5)
    np.testing.assert_allclose(camera.unnormalise_screen(normalised, wh), arrays[f"{name}/pixels_back"], atol=1e-2)
  seen = camera.world_to_camera(arrays["world"], arrays["quat"], arrays["translation"])
  np.testing.assert_allclose(seen, arrays["camera"], atol=1e-5)
  back = camera.camera_to_world(jnp.asarray(arrays["camera"]), arrays["quat"], arrays["translation"])
  np.testing.assert_allclose(back, arrays["world_back"], atol=1e-5)
  for unit, limit in (("px", 1e-2), ("norm", 1e-5)):
    intrinsics, points = arrays[f"proj_{unit}/intrinsics"], jnp.asarray(arrays["points"])
    np.testing.assert_allclose(camera.project(points, intrinsics), arrays[f"proj_{unit}/full"], atol=limit)
    np.testing.assert_allclose(camera.project_linear(points, intrinsics), arrays[f"proj_{unit}/linear"], atol=limit)
    _, pull = jax.vjp(lambda points: camera.project(points, intrinsics), points)
    expected = arrays[f"proj_{unit}/full_vjp"]
    np.testing.assert_allclose(pull(arrays[f"proj_{unit}/cotangent"])[0], expected, atol=1e-4 * np.abs(expected).max())
  for name in sorted({key.split("/")[0] for key in arrays if key.startswith("dhp_")}):
    px = camera.intrinsics_from_sensor(jnp.asarray(arrays[f"{name}/mm"]), jnp.asarray(arrays[f"{name}/res_and_sensor"]))
    np.testing.assert_allclose(px, arrays[f"{name}/px"], atol=1e-2)


def test_golden_position_alignment():
  arrays = golden.load("gpa_redistribution")
  cases = sorted(key.removesuffix("/perm") for key in arrays if key.endswith("/perm"))
  assert cases
  for case in cases:
    source, target, perm = (arrays[f"{case}/{name}"] for name in ("source_3d", "target_2d", "perm"))
    if len(source) <= len(target):
      target = target[perm]
    else:
      source = source[perm]
    intrinsics = jnp.broadcast_to(arrays[f"{case}/camera"], (len(source), 9))
    placed = synthesis.place(jnp.asarray(source)[:, None], jnp.asarray(target)[:, None], intrinsics, align="frame")
    np.testing.assert_allclose(placed[:, 0], arrays[f"{case}/out_3d"], atol=1e-5, rtol=1e-5, err_msg=case)
