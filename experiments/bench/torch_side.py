"""The peer's side: one unit of work for each kind of case, in plain PyTorch."""

import contextlib
import os
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from . import cases, torch_models, torch_peer


def start(options) -> dict[str, str]:
  """Versions. The process gets as many threads as XLA takes."""
  torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
  return {"torch": torch.__version__, "platform": options.device}


def peak_bytes(options) -> int | None:
  """The accelerator's highest allocation, None on a CPU."""
  return torch.cuda.max_memory_allocated() if options.device == "cuda" else None


def make_matmul(size: int, options) -> Callable[[], None]:
  """A product of two square matrices, which measures the machine's ceiling."""
  a, b = (torch.randn(size, size, device=options.device, dtype=getattr(torch, options.dtype)) for _ in range(2))
  return lambda: _wait(options, torch.matmul(a, b))


def make(case: cases.Case, options) -> tuple[Callable, Callable]:
  """(run, check): `run()` does one unit and waits for it; `check(given)` returns (these random numbers, the arrays)."""

  def normal(*lead):
    return torch.randn(*lead, case.frames, cases.JOINTS, 3, device=options.device)

  network = _make_network(case, options.fused).to(options.device)
  if options.compiled:
    network.compile()
  work, draw = UNITS[case.kind](case, network, _tensors(cases.inputs(case), options.device), normal)
  low = contextlib.nullcontext()
  if options.dtype != "float32":
    low = torch.autocast(options.device, dtype=getattr(torch, options.dtype))

  def run():
    with low:
      _wait(options, work(**draw()))

  def check(given: dict[str, np.ndarray]) -> tuple[dict, dict[str, np.ndarray]]:
    _set_weights(network)
    with low:
      found = work(**_tensors(given, options.device))
    grads = {f"gradient/{_weight_name(name)}": parameter.grad for name, parameter in network.named_parameters()}
    found |= {name: grad for name, grad in grads.items() if grad is not None}
    return given, {name: torch.as_tensor(value).detach().float().cpu().numpy() for name, value in found.items()}

  return run, check


def _tensors(value, device):
  """A tree of arrays as tensors."""
  if isinstance(value, dict):
    return {name: _tensors(part, device) for name, part in value.items()}
  return torch.from_numpy(value).to(device)


def _wait(options, _) -> None:
  if options.device == "cuda":
    torch.cuda.synchronize()


class Adapted(nn.Module):
  """P_theta of Eq. 11: the network plus a bias by joint."""

  def __init__(self, network: torch_models.MixSTE):
    super().__init__()
    self.network = network
    self.bias = nn.Parameter(torch.zeros(cases.JOINTS, 3))

  def forward(self, x_2d, x_3d, t):
    return self.network(x_2d, x_3d, t) + self.bias


def _make_network(case: cases.Case, fused: bool) -> nn.Module:
  """The case's network with the benchmark's weights, frozen and with the paper's adapter where the case has one."""
  sizes = (case.frames, cases.JOINTS, case.width, case.depth, case.heads, cases.MLP_RATIO)
  network = torch_models.MixSTE(*sizes, diffusion=True)
  for block in (*network.STEblocks, *network.TTEblocks):
    block.attn.fused = fused
  if case.kind in ("teacher", "adapt", "cold_start"):
    network = Adapted(torch_models.inject(network.requires_grad_(False), cases.RANK))
  _set_weights(network)
  return network


@torch.no_grad()
def _set_weights(network: nn.Module) -> None:
  """Gives every parameter the benchmark's number again."""
  for name, parameter in network.named_parameters():
    name = _weight_name(name)
    value = np.zeros(parameter.shape, np.float32) if name == "bias" else cases.weight(name, tuple(parameter.shape))
    parameter.copy_(torch.from_numpy(value))


def _weight_name(name: str) -> str:
  """The reference's name of a parameter, plain or adapted. Factors are `<module>.down` and `<module>.up`."""
  name = name.removeprefix("network.").replace(".linear.", ".")
  return name.replace("lora_", "").removesuffix(".weight") if "lora_" in name else name


# A unit is (work, draw): `work(**draw())` computes a dictionary of tensors from random numbers.


def _forward(case, network, data, normal):
  arguments = (data["source"]["keypoints"], data["noise"][:, None], data["t"])
  return torch.no_grad()(lambda: {"pose": network(*arguments)[:, 0]}), dict


def _teacher(case, network, data, normal):
  return (lambda teacher: {"pose": torch_peer.pseudo_label(network, data["target"], teacher)},
          lambda: {"teacher": normal(case.clips, case.hypotheses)})


def _adapt(case, network, data, normal):
  trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
  optimizer = torch.optim.Adam(trained, lr=cases.LEARNING_RATE, fused=True)

  def work(teacher, student):
    return {"loss": torch_peer.adapt_step(network, optimizer, data["source"], data["target"], teacher, student)}

  return work, lambda: {"teacher": normal(case.clips, case.hypotheses), "student": normal(2 * case.clips)}


def _infer(case, network, data, normal):
  return (lambda init, step: {"pose": torch_peer.infer(network, data["target"]["keypoints"], init, step)},
          lambda: {"init": normal(case.clips), "step": normal(case.steps - 1, case.clips)})


def _pretrain(case, network, data, normal):
  optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
  average = [parameter.detach().clone() for parameter in network.parameters()]

  def work(flipped, t, noise):
    return {"loss": torch_peer.pretrain_step(network, average, optimizer, data["source"], flipped, t, noise)}

  def draw():
    uniform = torch.rand(2, case.clips, device=data["t"].device)
    t = (uniform[1] * cases.DIFFUSION_STEPS).long()
    return {"flipped": uniform[0] < 0.5, "t": t, "noise": normal(case.clips)}

  return work, draw


def _gradient(case, network, data, normal):
  keypoints, x_0 = data["source"]["keypoints"], torch_peer.root_centre(data["source"]["poses"])

  def work():
    network.zero_grad(set_to_none=True)
    loss = torch_peer.supervised_loss(network, keypoints, x_0, data["t"], data["noise"])
    loss.backward()
    return {"loss": loss}

  return work, dict


def _evaluate(case, network, data, normal):
  num_clips = -(-case.length // case.frames)
  whole = -(-num_clips // case.clips) * case.clips  # the last batch is padded with clips without a valid frame
  first = torch.arange(whole)[:, None] * case.frames
  frames = first.clamp(max=case.length - case.frames) + torch.arange(case.frames)
  batch = {name: data["sequence"][name][0][frames] for name in ("keypoints", "poses")}
  batch["valid"] = ((frames >= first) & (first < case.length)).to(batch["poses"])
  batches = [dict(zip(batch, parts)) for parts in zip(*(value.split(case.clips) for value in batch.values()))]
  return lambda noise: torch_peer.evaluate(network, batches, noise), lambda: {"noise": normal(whole)}


UNITS = {
    "forward": _forward, "teacher": _teacher, "adapt": _adapt, "cold_start": _adapt, "infer": _infer,
    "pretrain": _pretrain, "gradient": _gradient, "evaluate": _evaluate,
}
