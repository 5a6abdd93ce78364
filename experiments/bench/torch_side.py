"""The peer's units of work, one a kind of case: something to run, and something to compare."""

from collections.abc import Callable

import numpy as np
import torch

from experiments import torch_peer
from experiments.bench import cases


def matmul(size: int, device, dtype) -> Callable[[], None]:
  """A product of two square matrices, as the machine's ceiling."""
  a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

  def run():
    torch.matmul(a, b)
    sync(device)

  return run


def sync(device) -> None:
  if device.type == "cuda":
    torch.cuda.synchronize()


def make(case: cases.Case, device, fused: bool, compiled: bool = False, dtype: str = "float32"):
  """(run, check): one unit of the case, finished when it returns, and `check(given) -> arrays` from the other side's numbers."""
  run, check = UNITS[case.kind](case, device, fused, compiled)
  if dtype == "float32":
    return run, check

  def low(function):
    def called(*args):
      with torch.autocast(device.type, dtype=getattr(torch, dtype)):
        return function(*args)
    return called

  return low(run), low(check)


def _batch(case: cases.Case, seed: int, device) -> dict[str, torch.Tensor]:
  return {name: torch.from_numpy(value).to(device) for name, value in cases.clips(case.clips, case.frames, seed).items()}


def _network(case, device, fused, compiled, adapted=False):
  network = torch_peer.make_network(case, adapted, fused, device)
  return network, torch.compile(network) if compiled else network


def _tensors(given: dict, device) -> dict[str, torch.Tensor]:
  return {name: torch.from_numpy(value).to(device) for name, value in given.items()}


def _numpy(value) -> np.ndarray:
  return value.detach().float().cpu().numpy()


def _gradients(network) -> dict[str, np.ndarray]:
  """Gradients of what trains, under the reference's names."""
  named = ((torch_peer.weight_name(name), parameter.grad) for name, parameter in network.named_parameters())
  return {f"gradient/{name}": _numpy(grad) for name, grad in named if grad is not None}


def _forward(case, device, fused, compiled):
  _, network = _network(case, device, fused, compiled)
  keypoints = _batch(case, 0, device)["keypoints"]
  noisy = torch.from_numpy(cases.noise((case.clips, 1, case.frames, cases.JOINTS, 3), 1)).to(device)
  t = torch.from_numpy(cases.times(case.clips)).to(device)

  @torch.no_grad()
  def call():
    return network(keypoints, noisy, t)[:, 0]

  def run():
    call()
    sync(device)

  return run, lambda given: {"pose": _numpy(call())}


def _teacher(case, device, fused, compiled):
  _, network = _network(case, device, fused, compiled, adapted=True)
  target = _batch(case, 1, device)
  shape = (case.clips, case.hypotheses, case.frames, cases.JOINTS, 3)

  def run():
    torch_peer.pseudo_label(network, target, torch.randn(shape, device=device))
    sync(device)

  return run, lambda given: {"pose": _numpy(torch_peer.pseudo_label(network, target, _tensors(given, device)["teacher"]))}


def _adapt(case, device, fused, compiled):
  student, called = _network(case, device, fused, compiled, adapted=True)
  source, target = _batch(case, 0, device), _batch(case, 1, device)
  trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
  optimizer = torch.optim.Adam(trained, lr=cases.LEARNING_RATE, fused=True)
  frames = (case.frames, cases.JOINTS, 3)

  def run():
    teacher_noise = torch.randn((case.clips, case.hypotheses) + frames, device=device)
    student_noise = torch.randn((2 * case.clips,) + frames, device=device)
    torch_peer.adapt_step(called, optimizer, source, target, teacher_noise, student_noise)
    sync(device)

  def check(given):
    given = _tensors(given, device)
    torch_peer.set_weights(student)
    loss = torch_peer.adapt_step(called, optimizer, source, target, given["teacher"], given["student"])
    return {"loss": _numpy(loss), **_gradients(student)}

  return run, check


def _infer(case, device, fused, compiled):
  _, network = _network(case, device, fused, compiled)
  keypoints = _batch(case, 1, device)["keypoints"]
  shape = (case.clips, case.frames, cases.JOINTS, 3)

  def run():
    torch_peer.infer(network, keypoints, torch.randn(shape, device=device), torch.randn((case.steps - 1,) + shape, device=device))
    sync(device)

  def check(given):
    given = _tensors(given, device)
    return {"pose": _numpy(torch_peer.infer(network, keypoints, given["init"], given["step"]))}

  return run, check


def _pretrain(case, device, fused, compiled):
  network, called = _network(case, device, fused, compiled)
  batch = _batch(case, 0, device)
  optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
  average = [parameter.detach().clone() for parameter in network.parameters()]
  shape = (case.clips, case.frames, cases.JOINTS, 3)

  def run():
    flipped, t = torch.rand(case.clips, device=device) < 0.5, torch.randint(cases.DIFFUSION_STEPS, (case.clips,), device=device)
    torch_peer.pretrain_step(called, average, optimizer, batch, flipped, t, torch.randn(shape, device=device))
    sync(device)

  def check(given):
    given = _tensors(given, device)
    torch_peer.set_weights(network)
    loss = torch_peer.pretrain_step(called, average, optimizer, batch, given["flipped"], given["t"], given["noise"])
    return {"loss": _numpy(loss), **_gradients(network)}

  return run, check


def _gradient(case, device, fused, compiled):
  network, called = _network(case, device, fused, compiled)
  batch = _batch(case, 0, device)
  x_0 = batch["poses"] - batch["poses"][..., :1, :]
  t = torch.from_numpy(cases.times(case.clips)).to(device)
  noise = torch.from_numpy(cases.noise(tuple(x_0.shape), 1)).to(device)

  def run():
    network.zero_grad(set_to_none=True)
    loss = torch_peer.supervised_loss(called, batch["keypoints"], x_0, t, noise)
    loss.backward()
    sync(device)
    return loss

  return run, lambda given: {"loss": _numpy(run()), **_gradients(network)}


def _evaluate(case, device, fused, compiled):
  _, network = _network(case, device, fused, compiled)
  batches = torch_peer.test_batches(case, device)

  def run():
    torch_peer.evaluate(network, batches)

  def check(given):
    scores = torch_peer.evaluate(network, batches, _tensors(given, device)["noise"])
    return {name: np.float32(value) for name, value in scores.items()}

  return run, check


UNITS = {
    "forward": _forward, "teacher": _teacher, "adapt": _adapt, "cold_start": _adapt, "infer": _infer, "pretrain": _pretrain,
    "gradient": _gradient, "evaluate": _evaluate,
}
