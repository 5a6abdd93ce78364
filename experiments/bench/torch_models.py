"""MixSTE and LoRA as plain PyTorch modules with the reference's state-dict names, in evaluation mode only.

The benchmark's peer and the parity tests use them. Import this file only where PyTorch is installed.
"""

import math

import torch
from torch import nn


class Attention(nn.Module):
  fused = False  # PyTorch's own kernel in place of the reference's formula

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width)
    self.proj = nn.Linear(width, width)

  def forward(self, x):  # n s d
    n, s, d = x.shape
    q, k, v = self.qkv(x).reshape(n, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
    if self.fused:
      x = nn.functional.scaled_dot_product_attention(q, k, v)
    else:
      x = ((q @ k.transpose(-2, -1)) * (d // self.heads) ** -0.5).softmax(-1) @ v
    return self.proj(x.transpose(1, 2).reshape(n, s, d))


class Block(nn.Module):
  def __init__(self, width: int, heads: int, mlp_ratio: float):
    super().__init__()
    hidden = int(width * mlp_ratio)
    self.norm1 = nn.LayerNorm(width, eps=1e-6)
    self.attn = Attention(width, heads)
    self.norm2 = nn.LayerNorm(width, eps=1e-6)
    self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

  def forward(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class Sinusoid(nn.Module):
  def __init__(self, width: int):
    super().__init__()
    self.half = width // 2

  def forward(self, t):
    rates = torch.exp(torch.arange(self.half, device=t.device) * -(math.log(10000) / (self.half - 1)))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


class MixSTE(nn.Module):
  """The plain lifter x_2d [b f j 2] -> [b f j 3], or the denoiser (x_2d, x_3d [b h f j 3], t [b]) -> [b h f j 3]."""

  def __init__(self, num_frame, num_joints, embed_dim, depth, num_heads, mlp_ratio, diffusion: bool):
    super().__init__()
    width = embed_dim
    self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, num_joints, width))
    self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, num_frame, width))
    self.Spatial_patch_to_embedding = nn.Linear(5 if diffusion else 2, width)
    if diffusion:
      layers = (Sinusoid(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
      self.time_mlp = nn.Sequential(*layers)
    self.STEblocks = nn.ModuleList(Block(width, num_heads, mlp_ratio) for _ in range(depth))
    self.TTEblocks = nn.ModuleList(Block(width, num_heads, mlp_ratio) for _ in range(depth))
    self.Spatial_norm = nn.LayerNorm(width, eps=1e-6)
    self.Temporal_norm = nn.LayerNorm(width, eps=1e-6)
    self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3))

  def forward(self, x_2d, x_3d=None, t=None):
    x = x_2d[:, None]
    if x_3d is not None:
      x = torch.cat([x.expand(-1, x_3d.shape[1], -1, -1, -1), x_3d], -1)
    b, h, f, j, _ = x.shape
    x = self.Spatial_patch_to_embedding(x) + self.Spatial_pos_embed
    if t is not None:
      x = x + self.time_mlp(t)[:, None, None, None]
    d = x.shape[-1]
    for i, (spatial, temporal) in enumerate(zip(self.STEblocks, self.TTEblocks)):
      x = self.Spatial_norm(spatial(x.reshape(-1, j, d)))
      x = x.reshape(b * h, f, j, d).transpose(1, 2).reshape(-1, f, d)
      x = self.Temporal_norm(temporal(x + self.Temporal_pos_embed if i == 0 else x))
      x = x.reshape(b * h, j, f, d).transpose(1, 2)
    x = self.head(x).reshape(b, h, f, j, 3)
    return x if x_3d is not None else x[:, 0]


class LoraLinear(nn.Module):
  def __init__(self, linear: nn.Linear, rank: int):
    super().__init__()
    self.linear = linear
    self.lora_down = nn.Linear(linear.in_features, rank, bias=False)
    self.lora_up = nn.Linear(rank, linear.out_features, bias=False)

  def forward(self, x):
    return self.linear(x) + self.lora_up(self.lora_down(x))


def inject(model: MixSTE, rank: int) -> MixSTE:
  """The model with LoRA layers of scale 1 in every attention layer."""
  for block in [*model.STEblocks, *model.TTEblocks]:
    block.attn.qkv, block.attn.proj = LoraLinear(block.attn.qkv, rank), LoraLinear(block.attn.proj, rank)
  return model
