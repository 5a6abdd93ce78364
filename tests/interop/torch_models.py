"""The reference networks as plain PyTorch modules with the reference's state-dict names, in evaluation mode only.

Import only where PyTorch is installed. `D3DP` and `inject` give the names of whole checkpoints.
"""

import torch
from torch import nn

from experiments.torch_models import MixSTE, inject  # noqa: F401
from posynda_jax.interop import torch_names


class D3DP(nn.Module):
  """D3DP: the denoiser and 12 schedule buffers."""

  def __init__(self, pose_estimator: MixSTE, num_steps: int):
    super().__init__()
    for name, value in torch_names.schedule_buffers(num_steps).items():
      self.register_buffer(name, torch.from_numpy(value.copy()))
    self.pose_estimator = pose_estimator


class Module(nn.Module):
  """A wrapper with the names of nn.DataParallel."""

  def __init__(self, module: nn.Module):
    super().__init__()
    self.module = module


class VideoPose(nn.Module):
  """VideoPose3D [b t 17 2] -> [b g 17 3], unpadded: dilated convolutions, or `strided`, the form that it trains in."""

  def __init__(self, filter_widths, channels: int, causal: bool = False, strided: bool = False):
    super().__init__()
    self.widths, self.causal, self.strided = tuple(filter_widths), causal, strided
    self.expand_bn = nn.BatchNorm1d(channels)
    self.shrink = nn.Conv1d(channels, 51, 1)
    first, *further = self.widths
    self.expand_conv = nn.Conv1d(34, channels, first, stride=first if strided else 1, bias=False)
    convs, dilation = [], first
    for width in further:
      how = {"stride": width} if strided else {"dilation": dilation}
      convs += [nn.Conv1d(channels, channels, width, bias=False, **how), nn.Conv1d(channels, channels, 1, bias=False)]
      dilation *= width
    self.layers_conv = nn.ModuleList(convs)
    self.layers_bn = nn.ModuleList(nn.BatchNorm1d(channels) for _ in convs)

  def forward(self, x):
    b, t = x.shape[:2]
    x = self.expand_bn(self.expand_conv(x.reshape(b, t, 34).transpose(1, 2))).relu()
    dilation = self.widths[0]
    for i, width in enumerate(self.widths[1:]):
      middle = width // 2 * (2 if self.causal else 1)
      if self.strided:
        kept = x[:, :, middle::width]
      else:
        start, length = middle * dilation, x.shape[2] - (width - 1) * dilation
        kept = x[:, :, start : start + length]
      y = self.layers_bn[2 * i](self.layers_conv[2 * i](x)).relu()
      x = kept + self.layers_bn[2 * i + 1](self.layers_conv[2 * i + 1](y)).relu()
      dilation *= width
    return self.shrink(x).transpose(1, 2).reshape(b, -1, 17, 3)
