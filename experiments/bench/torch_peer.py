"""The peer that the benchmark compares with: MixSTE, LoRA and the paper's steps as one writes them in plain PyTorch.

Eager by default, hypotheses batched, the base frozen by `requires_grad_(False)`, fused Adam. The package never imports it. Noise
is always an argument, so that both sides can be given the same.
"""

import numpy as np
import torch
from torch import nn

from experiments import torch_models
from experiments.bench import cases
from posynda_jax.data import clips

CLAMP = 1.1
LAST = cases.DIFFUSION_STEPS - 1
LEFT, RIGHT = (4, 5, 6, 11, 12, 13), (1, 2, 3, 14, 15, 16)
MIRROR = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13]
NEAR_M = 0.5


class Adapted(nn.Module):
  """P_theta of Eq. 11: the network plus a bias by joint. x_2d [b f j 2], x_3d [b h f j 3], t [b] -> [b h f j 3]."""

  def __init__(self, network: torch_models.MixSTE):
    super().__init__()
    self.network = network
    self.bias = nn.Parameter(torch.zeros(cases.JOINTS, 3))

  def forward(self, x_2d, x_3d, t):
    return self.network(x_2d, x_3d, t) + self.bias


def make_network(case: cases.Case, adapted: bool = False, fused: bool = False, device="cpu") -> nn.Module:
  """The network with the benchmark's weights; `adapted` freezes it and adds what the paper trains."""
  network = torch_models.MixSTE(
      case.frames, cases.JOINTS, case.width, case.depth, case.heads, cases.MLP_RATIO, diffusion=True
  )
  if adapted:
    network = Adapted(torch_models.inject(network.requires_grad_(False), cases.RANK))
  for module in network.modules():
    if isinstance(module, torch_models.Attention):
      module.fused = fused
  return set_weights(network).to(device)


@torch.no_grad()
def set_weights(network: nn.Module) -> nn.Module:
  """The network with the benchmark's weights again, whatever it has learnt."""
  for name, parameter in network.named_parameters():
    name = weight_name(name)
    if name == "bias":
      parameter.zero_()
    else:
      parameter.copy_(torch.from_numpy(cases.weight(name, tuple(parameter.shape))))
  return network


def weight_name(name: str) -> str:
  """The reference's name of a parameter, whether adapted, compiled or plain: factors are `<module>.down` and `<module>.up`."""
  name = name.removeprefix("_orig_mod.").removeprefix("network.").replace(".linear.", ".")
  return name.replace("lora_", "").removesuffix(".weight") if "lora_" in name else name


def _parts(points, intrinsics):
  """Focal lengths, centre, radial and tangential coefficients of intrinsics [b 9], each [b ... n] for points [b ... c]."""
  return intrinsics.reshape((len(points),) + (1,) * (points.ndim - 2) + (-1,)).split((2, 2, 3, 2), -1)


def distort(m, intrinsics):
  """Radial and tangential distortion of ideal points m [b ... 2]."""
  _, _, k, p = _parts(m, intrinsics)
  r2 = (m * m).sum(-1, keepdim=True)
  radial = 1 + k[..., :1] * r2 + k[..., 1:2] * r2**2 + k[..., 2:] * r2**3
  return m * (radial + (p * m).sum(-1, keepdim=True)) + p * r2


def project(points, intrinsics):
  """Image positions [b ... 2] of camera-frame points [b ... 3]."""
  focal, centre, *_ = _parts(points, intrinsics)
  return focal * distort((points[..., :2] / points[..., 2:]).clamp(-1, 1), intrinsics) + centre


def rays(keypoints, intrinsics, iterations: int = 10):
  """Directions [b f j 2] of keypoints: the undistorted inverse of `project`."""
  focal, centre, *_ = _parts(keypoints, intrinsics)
  m = ideal = (keypoints - centre) / focal
  for _ in range(iterations):
    ideal = ideal - (distort(ideal, intrinsics) - m)
  return ideal


def solve_root(pose, ray, confidence):
  """The translation [... 3] that best reprojects root-relative poses [... j 3] onto rays: least squares, closed form."""
  weight = (confidence / confidence.sum(-1, keepdim=True).clamp(min=1e-9))[..., None]
  mean = lambda x: (weight * x).sum(-2, keepdim=True)
  residual = ray * pose[..., 2:] - pose[..., :2]
  ray_mean, residual_mean = mean(ray), mean(residual)
  ray_c, residual_c = ray - ray_mean, residual - residual_mean
  tz = -(weight * ray_c * residual_c).sum((-1, -2)) / (weight * ray_c * ray_c).sum((-1, -2)).clamp(min=1e-12)
  tz = torch.maximum(tz, 0.1 - pose[..., 2].amin(-1))[..., None]
  return torch.cat([residual_mean[..., 0, :] + ray_mean[..., 0, :] * tz, tz], -1)


def augment(poses, keypoints, intrinsics):
  """F (Eq. 3), one placement a clip: source poses [b f j 3] before the target's cameras. Returns (keypoints, labels)."""
  extent = lambda x: (x[..., :2].amax(-2) - x[..., :2].amin(-2)).mean(-2, keepdim=True)  # b 1 2
  focal, centre = intrinsics[:, None, :2], intrinsics[:, None, 2:4]
  root, root_2d = poses[..., 0, :], keypoints[..., 0, :].mean(-2, keepdim=True)
  z = (focal * extent(poses)).sum(-1, keepdim=True) / extent(keypoints).sum(-1, keepdim=True).clamp(min=1e-6)
  place = torch.cat([(root_2d - centre) / focal * z, z], -1) + root - root.mean(-2, keepdim=True)
  labels = poses - poses[..., :1, :]
  placed = labels + place[..., None, :]
  placed[..., 2] += (NEAR_M - placed[..., 2].amin((-2, -1), keepdim=True)).clamp(min=0)
  return project(placed, intrinsics), labels


@torch.no_grad()
def pseudo_label(teacher, target, noise):
  """The hypothesis [b f j 3] of those from noise [b h f j 3] that reprojects best, frame by frame (Eq. 4-5)."""
  t = torch.full((len(noise),), LAST, device=noise.device)
  poses = teacher(target["keypoints"], noise.clamp(-CLAMP, CLAMP), t).clamp(-CLAMP, CLAMP)
  ray, confidence = rays(target["keypoints"], target["intrinsics"])[:, None], target["confidence"][:, None]
  roots = solve_root(poses, ray, confidence)
  errors = (project(poses + roots[..., None, :], target["intrinsics"]) - target["keypoints"][:, None]).norm(dim=-1)
  best = (errors * confidence).mean(-1).argmin(1)  # b f
  return poses.gather(1, best[:, None, :, None, None].expand(-1, 1, -1, *poses.shape[3:]))[:, 0]


def adapt_step(student, optimizer, source, target, teacher_noise, student_noise):
  """Algorithm 1, lines 4-20, the teacher being the student itself. Returns the loss."""
  pose = pseudo_label(student, target, teacher_noise)
  keypoints, labels = augment(source["poses"], target["keypoints"], target["intrinsics"])
  keypoints, labels = torch.cat([keypoints, target["keypoints"]]), torch.cat([labels, pose])
  t = torch.full((len(labels),), LAST, device=labels.device)
  loss = nn.functional.mse_loss(student(keypoints, student_noise.clamp(-CLAMP, CLAMP)[:, None], t)[:, 0], labels)
  optimizer.zero_grad(set_to_none=True)
  loss.backward()
  optimizer.step()
  return loss.detach()


def alpha_bar(num_steps: int = cases.DIFFUSION_STEPS) -> np.ndarray:
  """The cosine schedule (float64)."""
  x = (np.arange(num_steps + 1) / num_steps + 0.008) / 1.008 * np.pi / 2
  bar = np.cos(x) ** 2
  return np.cumprod(1 - np.clip(1 - bar[1:] / bar[:-1], 0, 0.999))


@torch.no_grad()
def infer(network, keypoints, init_noise, step_noise):
  """K DDIM steps (eta = 1), each averaged with its mirror image: [b f j 3] from noise [b f j 3] and [k-1 b f j 3]."""
  count, bar = len(step_noise) + 1, alpha_bar()
  times = [k * len(bar) // count - 1 for k in range(count, -1, -1)]
  flip = lambda x: x[..., MIRROR, :] * torch.tensor([-1.0] + [1.0] * (x.shape[-1] - 1), device=x.device)
  both = torch.cat([keypoints, flip(keypoints)])
  x_t = init_noise
  for i, (now, after) in enumerate(zip(times, times[1:])):
    noisy = x_t.clamp(-CLAMP, CLAMP)
    answers = network(both, torch.cat([noisy, flip(noisy)])[:, None], torch.full((len(both),), now, device=both.device))[:, 0]
    straight, mirrored = answers.chunk(2)
    x_0 = ((straight + flip(mirrored)) / 2).clamp(-CLAMP, CLAMP)
    if after < 0:
      return x_0
    a, b = bar[now], bar[after]
    sigma = np.sqrt((1 - a / b) * (1 - b) / (1 - a))
    implied = (np.sqrt(1 / a) * x_t - x_0) / np.sqrt(1 / a - 1)
    x_t = np.sqrt(b) * x_0 + np.sqrt(1 - b - sigma**2) * implied + sigma * step_noise[i]


def diffused(x_0, t, noise):
  """q_sample (Eq. 7), limited to the clamp."""
  bar = torch.from_numpy(alpha_bar()).float().to(x_0.device)[t][:, None, None, None]
  return (bar.sqrt() * x_0 + (1 - bar).sqrt() * noise).clamp(-CLAMP, CLAMP)


def supervised_loss(network, keypoints, x_0, t, noise):
  """Mean joint distance of the denoised pose."""
  pred = network(keypoints, diffused(x_0, t, noise)[:, None], t)[:, 0]
  return (((pred - x_0) ** 2).sum(-1) + 1e-12).sqrt().mean()


def pretrain_step(network, average, optimizer, batch, flipped, t, noise):
  """One update: mirrored clips, diffusion, clipped gradients, AdamW, running average. Returns the loss."""
  x_0 = batch["poses"] - batch["poses"][..., :1, :]
  flip = lambda x: x[..., MIRROR, :] * torch.tensor([-1.0] + [1.0] * (x.shape[-1] - 1), device=x.device)
  mirror = lambda x: torch.where(flipped[:, None, None, None], flip(x), x)
  loss = supervised_loss(network, mirror(batch["keypoints"]), mirror(x_0), t, noise)
  optimizer.zero_grad(set_to_none=True)
  loss.backward()
  nn.utils.clip_grad_norm_(network.parameters(), 1.0)
  optimizer.step()
  torch._foreach_lerp_(average, list(network.parameters()), 0.005)
  return loss.detach()


@torch.no_grad()
def errors(pose, target) -> dict[str, torch.Tensor]:
  """MPJPE, P-MPJPE and N-MPJPE of every frame [b f]."""
  mpjpe = lambda pred: (pred - target).norm(dim=-1).mean(-1)
  mean, a, b = target.mean(-2, keepdim=True), pose - pose.mean(-2, keepdim=True), target - target.mean(-2, keepdim=True)
  u, s, vt = torch.linalg.svd(a.transpose(-1, -2) @ b)
  d = torch.ones_like(s)
  d[..., 2] = torch.linalg.det(u @ vt).sign()
  scale = (s * d).sum(-1)[..., None, None] / (a * a).sum((-2, -1), keepdim=True)
  factor = (target * pose).sum((-2, -1), keepdim=True) / (pose * pose).sum((-2, -1), keepdim=True)
  aligned = scale * (a @ ((u * d[..., None, :]) @ vt)) + mean
  return {"mpjpe": mpjpe(pose), "p_mpjpe": mpjpe(aligned), "n_mpjpe": mpjpe(factor * pose)}


@torch.no_grad()
def evaluate(network, batches, noise=None) -> dict[str, float]:
  """Means over valid frames (mm) of batches of clips, from one noise sample a clip."""
  totals, frames = {}, 0.0
  for i, batch in enumerate(batches):
    shape = batch["poses"].shape
    start = torch.randn(shape, device=batch["poses"].device) if noise is None else noise[i * shape[0] :][: shape[0]]
    t = torch.full((shape[0],), LAST, device=start.device)
    pose = network(batch["keypoints"], start.clamp(-CLAMP, CLAMP)[:, None], t)[:, 0].clamp(-CLAMP, CLAMP)
    frames += batch["valid"].sum().item()
    for name, value in errors(pose - pose[..., :1, :], batch["poses"] - batch["poses"][..., :1, :]).items():
      totals[name] = totals.get(name, 0.0) + (value * batch["valid"]).sum().double().item()
  return {name: 1000 * total / frames for name, total in totals.items()}


def test_batches(case: cases.Case, device) -> list[dict]:
  """The evaluation's clips, padded to whole batches by clips that count nothing."""
  sequence = cases.clips(1, case.length, 0)
  plan = clips.make_cut(case.length, case.frames)
  arrays = {name: sequence[name][0][plan.frames] for name in ("keypoints", "poses")}
  arrays["valid"] = sequence["valid"][0][plan.frames] * plan.mask
  whole = -(-len(plan.frames) // case.clips) * case.clips
  rows = np.minimum(np.arange(whole), len(plan.frames) - 1)
  arrays = {name: value[rows] for name, value in arrays.items()}
  arrays["valid"][len(plan.frames) :] = 0
  return [
      {name: torch.from_numpy(value[i : i + case.clips]).to(device) for name, value in arrays.items()}
      for i in range(0, whole, case.clips)
  ]
