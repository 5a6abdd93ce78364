"""The paper's steps in plain eager PyTorch: teacher, adaptation step, inference, pretraining step and evaluation.

The package never imports this file. Noise is always an argument, so that both sides can compute from the same numbers.
"""

import numpy as np
import torch
from torch import nn

from . import cases

CLAMP = 1.1
LAST = cases.DIFFUSION_STEPS - 1
MIRROR = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13]
NEAR_M = 0.5


def _parts(points, intrinsics):
  """Focal lengths, centre, radial and tangential coefficients [b ... n] of intrinsics [b 9] for points [b ... c]."""
  return intrinsics.reshape((len(points),) + (1,) * (points.ndim - 2) + (-1,)).split((2, 2, 3, 2), -1)


def distort(m, intrinsics):
  """Ideal points m [b ... 2] with radial and tangential distortion."""
  _, _, k, p = _parts(m, intrinsics)
  r2 = (m * m).sum(-1, keepdim=True)
  radial = 1 + k[..., :1] * r2 + k[..., 1:2] * r2**2 + k[..., 2:] * r2**3
  return m * (radial + (p * m).sum(-1, keepdim=True)) + p * r2


def project(points, intrinsics):
  """Image positions [b ... 2] of camera-frame points [b ... 3]."""
  focal, centre, *_ = _parts(points, intrinsics)
  return focal * distort((points[..., :2] / points[..., 2:]).clamp(-1, 1), intrinsics) + centre


def rays(keypoints, intrinsics, iterations: int = 10):
  """Undistorted directions [b f j 2] of keypoints, the inverse of `project`."""
  focal, centre, *_ = _parts(keypoints, intrinsics)
  m = ideal = (keypoints - centre) / focal
  for _ in range(iterations):
    ideal = ideal - (distort(ideal, intrinsics) - m)
  return ideal


def solve_root(pose, ray, confidence):
  """The translation [... 3] with the least squared reprojection error of root-relative poses [... j 3] onto rays."""
  weight = (confidence / confidence.sum(-1, keepdim=True).clamp(min=1e-9))[..., None]
  residual = ray * pose[..., 2:] - pose[..., :2]
  ray_mean, residual_mean = ((weight * x).sum(-2, keepdim=True) for x in (ray, residual))
  ray_c, residual_c = ray - ray_mean, residual - residual_mean
  tz = -(weight * ray_c * residual_c).sum((-1, -2)) / (weight * ray_c * ray_c).sum((-1, -2)).clamp(min=1e-12)
  tz = torch.maximum(tz, 0.1 - pose[..., 2].amin(-1))[..., None]
  return torch.cat([residual_mean[..., 0, :] + ray_mean[..., 0, :] * tz, tz], -1)


def root_centre(poses):
  """Root-relative poses."""
  return poses - poses[..., :1, :]


def augment(poses, keypoints, intrinsics):
  """(keypoints, labels) of F (Eq. 3): source poses [b f j 3] before the target's cameras, one placement a clip."""
  extents = ((x[..., :2].amax(-2) - x[..., :2].amin(-2)).mean(-2, keepdim=True) for x in (poses, keypoints))
  size, size_2d = extents  # b 1 2
  focal, centre = intrinsics[:, None, :2], intrinsics[:, None, 2:4]
  root, root_2d = poses[..., 0, :], keypoints[..., 0, :].mean(-2, keepdim=True)
  z = (focal * size).sum(-1, keepdim=True) / size_2d.sum(-1, keepdim=True).clamp(min=1e-6)
  place = torch.cat([(root_2d - centre) / focal * z, z], -1) + root - root.mean(-2, keepdim=True)
  labels = root_centre(poses)
  placed = labels + place[..., None, :]
  placed[..., 2] += (NEAR_M - placed[..., 2].amin((-2, -1), keepdim=True)).clamp(min=0)
  return project(placed, intrinsics), labels


def denoise(network, keypoints, noisy, t: int):
  """x_0 [b h f j 3] from noisy poses [b h f j 3], which are clamped, at one t."""
  return network(keypoints, noisy.clamp(-CLAMP, CLAMP), torch.full((len(noisy),), t, device=noisy.device))


@torch.no_grad()
def pseudo_label(teacher, target, noise):
  """The hypothesis [b f j 3] from noise [b h f j 3] that reprojects best in each frame (Eq. 4-5)."""
  poses = denoise(teacher, target["keypoints"], noise, LAST).clamp(-CLAMP, CLAMP)
  ray, confidence = rays(target["keypoints"], target["intrinsics"])[:, None], target["confidence"][:, None]
  roots = solve_root(poses, ray, confidence)
  errors = project(poses + roots[..., None, :], target["intrinsics"]) - target["keypoints"][:, None]
  best = (errors.norm(dim=-1) * confidence).mean(-1).argmin(1)  # b f
  return poses.gather(1, best[:, None, :, None, None].expand(-1, 1, -1, *poses.shape[3:]))[:, 0]


def update(optimizer, loss, clipped=()):
  """The loss, after one optimizer step with the gradients of the `clipped` parameters limited to norm 1."""
  optimizer.zero_grad(set_to_none=True)
  loss.backward()
  if clipped:
    nn.utils.clip_grad_norm_(clipped, 1.0)
  optimizer.step()
  return loss.detach()


def adapt_step(student, optimizer, source, target, teacher_noise, student_noise):
  """The loss of one update of Algorithm 1, lines 4-20. The teacher is the student."""
  pose = pseudo_label(student, target, teacher_noise)
  keypoints, labels = augment(source["poses"], target["keypoints"], target["intrinsics"])
  keypoints, labels = torch.cat([keypoints, target["keypoints"]]), torch.cat([labels, pose])
  pred = denoise(student, keypoints, student_noise[:, None], LAST)[:, 0]
  return update(optimizer, nn.functional.mse_loss(pred, labels))


def alpha_bar(num_steps: int = cases.DIFFUSION_STEPS) -> np.ndarray:
  """The cosine schedule (float64)."""
  bar = np.cos((np.arange(num_steps + 1) / num_steps + 0.008) / 1.008 * np.pi / 2) ** 2
  return np.cumprod(1 - np.clip(1 - bar[1:] / bar[:-1], 0, 0.999))


def flip(x):
  """Mirrored keypoints or poses [... j c]."""
  return x[..., MIRROR, :] * torch.tensor([-1.0] + [1.0] * (x.shape[-1] - 1), device=x.device)


@torch.no_grad()
def infer(network, keypoints, init_noise, step_noise):
  """Poses [b f j 3] of K DDIM steps (eta = 1), each averaged with its mirror image; noise [b f j 3], [k-1 b f j 3]."""
  count, bar = len(step_noise) + 1, alpha_bar()
  times = [k * len(bar) // count - 1 for k in range(count, -1, -1)]
  both = torch.cat([keypoints, flip(keypoints)])
  x_t = init_noise
  for i, (now, after) in enumerate(zip(times, times[1:])):
    straight, mirrored = denoise(network, both, torch.cat([x_t, flip(x_t)])[:, None], now)[:, 0].chunk(2)
    x_0 = ((straight + flip(mirrored)) / 2).clamp(-CLAMP, CLAMP)
    if after < 0:
      return x_0
    a, b = bar[now], bar[after]
    sigma = np.sqrt((1 - a / b) * (1 - b) / (1 - a))
    implied = (np.sqrt(1 / a) * x_t - x_0) / np.sqrt(1 / a - 1)
    x_t = np.sqrt(b) * x_0 + np.sqrt(1 - b - sigma**2) * implied + sigma * step_noise[i]


def supervised_loss(network, keypoints, x_0, t, noise):
  """Mean joint distance of the pose denoised from q_sample (Eq. 7), limited to the clamp."""
  bar = torch.from_numpy(alpha_bar()).float().to(x_0.device)[t][:, None, None, None]
  x_t = (bar.sqrt() * x_0 + (1 - bar).sqrt() * noise).clamp(-CLAMP, CLAMP)
  return (((network(keypoints, x_t[:, None], t)[:, 0] - x_0) ** 2).sum(-1) + 1e-12).sqrt().mean()


def pretrain_step(network, average, optimizer, batch, flipped, t, noise):
  """The loss of one update: mirrored clips, diffusion, clipped gradients, AdamW, running average."""
  clean, parameters = (batch["keypoints"], root_centre(batch["poses"])), list(network.parameters())
  keypoints, x_0 = (torch.where(flipped[:, None, None, None], flip(x), x) for x in clean)
  loss = update(optimizer, supervised_loss(network, keypoints, x_0, t, noise), parameters)
  torch._foreach_lerp_(average, parameters, 0.005)
  return loss


def errors(pose, target) -> dict[str, torch.Tensor]:
  """MPJPE, P-MPJPE and N-MPJPE of every frame [b f]."""
  mean = target.mean(-2, keepdim=True)
  a, b = pose - pose.mean(-2, keepdim=True), target - mean
  u, s, vt = torch.linalg.svd(a.transpose(-1, -2) @ b)
  d = torch.ones_like(s)
  d[..., 2] = torch.linalg.det(u @ vt).sign()
  scale = (s * d).sum(-1)[..., None, None] / (a * a).sum((-2, -1), keepdim=True)
  factor = (target * pose).sum((-2, -1), keepdim=True) / (pose * pose).sum((-2, -1), keepdim=True)
  aligned = scale * (a @ ((u * d[..., None, :]) @ vt)) + mean
  preds = {"mpjpe": pose, "p_mpjpe": aligned, "n_mpjpe": factor * pose}
  return {name: (pred - target).norm(dim=-1).mean(-1) for name, pred in preds.items()}


@torch.no_grad()
def evaluate(network, batches: list[dict], noise) -> dict[str, float]:
  """Means over valid frames (mm) of batches of clips, from one noise sample a clip: `noise` [n f j 3]."""
  totals, frames = {}, 0.0
  for batch, start in zip(batches, noise.split(len(batches[0]["poses"])), strict=True):
    pose = denoise(network, batch["keypoints"], start[:, None], LAST)[:, 0].clamp(-CLAMP, CLAMP)
    frames += batch["valid"].sum().item()
    for name, value in errors(root_centre(pose), root_centre(batch["poses"])).items():
      totals[name] = totals.get(name, 0.0) + (value * batch["valid"]).sum().double().item()
  return {name: 1000 * total / frames for name, total in totals.items()}
