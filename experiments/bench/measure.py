"""Rows of results: starts the processes of a case, checks that the sides agree, and times them in turn."""

import contextlib
import dataclasses
import itertools

import numpy as np

from . import cases, child

LIMITS = {"float32": 1e-4, "bfloat16": 5e-2}  # of disagreement; ten times as much for gradients
MIN_TURN = 0.2  # seconds


def spread(values) -> dict:
  """Median, minimum and quartiles."""
  low, median, high = np.percentile(values, (25, 50, 75))
  return {"median": float(median), "min": float(np.min(values)), "quartiles": [float(low), float(high)]}


def agreement(ours: dict, peer: dict, dtype: str = "float32") -> dict[str, float]:
  """Differences of two sides: of `pose` the largest (m), of the gradient's norm and of all else the relative one.

  Raises ValueError where a difference is above its limit, or where the sides return different arrays.
  """
  if set(ours) != set(peer):
    raise ValueError(f"the sides return different arrays: {', '.join(sorted(set(ours) ^ set(peer))[:4])}")
  gradients, found = [name for name in ours if name.startswith("gradient/")], {}
  if gradients:
    mine, theirs = (np.concatenate([side[name].ravel() for name in gradients], dtype=float) for side in (ours, peer))
    found["gradient"] = float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs))
  for name in ours.keys() - set(gradients):
    scale = 1.0 if name == "pose" else np.abs(peer[name]).max()
    found[name] = float(np.abs(ours[name] - peer[name]).max() / scale)
  for name, value in found.items():
    limit = LIMITS[dtype] * (10 if name == "gradient" else 1)
    if not value <= limit:
      raise ValueError(f"{name} differs by {value:.2g} between the sides, above {limit:g}: the case is not timed")
  return found


def measure(
    case: cases.Case, seconds: float, dtype: str = "float32", with_peer: bool = True, quick: bool = False,
    compiled: bool = False,
):
  """(row of results, versions) of a case, timed for about `seconds`. `quick` does not search the fastest peer;
  `compiled` adds the same peer under torch.compile.

  Raises ValueError where the sides disagree or a process ends.
  """
  options = child.Options("jax", dtype=dtype)
  ready = _compile(case, options)
  row = {"what": case.what, "dtype": dtype, "platform": ready["platform"]}
  versions = {name: ready[name] for name in ("jax", "device_kind")}
  if case.over:
    return row | _growth(case, options), versions
  sides = {"ours": (case, options)}
  if case.kind == "sweep":  # its peer is our own step of one adaptation, which must have the first member's loss
    sides["separate"] = (dataclasses.replace(case, kind="adapt", members=1), options)
    _compile(*sides["separate"])
  elif with_peer:
    device = "cuda" if ready["platform"] == "gpu" else "cpu"
    peer = child.Options("torch", keep=False, device=device) if quick else fastest_peer(case, device, dtype)
    attention = "scaled_dot_product_attention" if peer.fused else "plain"
    row["peer"] = {"attention": attention, "malloc_keeps_memory": peer.keep, "dtype": peer.dtype}
    sides["torch_eager"] = (case, peer)
    if compiled:
      sides["torch_compiled"] = (case, dataclasses.replace(peer, compiled=True))
  with contextlib.ExitStack() as stack:
    children = {name: stack.enter_context(child.Child(*side)) for name, side in sides.items()}
    for name in children.keys() - {"ours"}:
      given, ours = children["ours"].ask("check")
      _, theirs = children[name].ask("check", given)
      theirs = {key: theirs[key] for key in ours} if name == "separate" else theirs  # a sweep has the loss alone
      row["agreement"] = agreement(ours, theirs, dtype)
      versions |= {"torch": children[name].ready["torch"]} if name == "torch_eager" else {}
    taken, rates = take_turns(children, seconds)
    peaks = {name: side.ready["peak_bytes"] / 2**20 for name, side in children.items()}
  if case.kind == "cold_start":
    taken = _cold(sides, seconds)
  if "separate" in taken:
    taken["separate"] = [case.members * value for value in taken["separate"]]
  return row | _row(case, taken, rates, peaks), versions


def _compile(case: cases.Case, options: child.Options) -> dict:
  """Our side's `ready`. Later starts find its program in the compilation cache."""
  with child.Child(case, options) as side:
    return side.ready


def fastest_peer(case: cases.Case, device: str, dtype: str) -> child.Options:
  """The fastest options of the peer on one depth of the case: attention, our dtype or float32, malloc on a CPU."""
  case, tried = dataclasses.replace(case, depth=1), {}
  mallocs = (False, True) if device == "cpu" else (False,)
  for keep, fused, low in itertools.product(mallocs, (False, True), dict.fromkeys(("float32", dtype))):
    options = child.Options("torch", keep, fused, low, device)
    with child.Child(case, options) as peer:
      tried[options] = min(peer.ask("time", _units(peer)) for _ in range(3))
  return min(tried, key=tried.get)


def _units(side: child.Child) -> int:
  """Units of a turn that is long enough to be timed."""
  return max(1, round(MIN_TURN / side.ready["seconds"][-1]))


def take_turns(sides: dict[str, child.Child], seconds: float) -> tuple[dict, dict]:
  """(seconds a unit, matmul FLOP/s) by side and turn, A B A B, for about `seconds`: 3 to 25 turns each."""
  units = {name: _units(side) for name, side in sides.items()}
  turn = sum(units[name] * side.ready["seconds"][-1] for name, side in sides.items())
  taken, rates = {name: [] for name in sides}, {name: [] for name in sides}
  for _ in range(int(np.clip(seconds / turn, 3, 25))):
    for name, side in sides.items():
      taken[name].append(side.ask("time", units[name]))
    for name, side in sides.items():
      rates[name].append(side.ask("matmul"))
  return taken, rates


def _row(case: cases.Case, taken: dict, rates: dict, peaks: dict) -> dict:
  """Medians, spreads, ratios, memory and FLOP/s of the turns."""
  ours, ceiling = np.array(taken["ours"]), max(float(np.median(rate)) for rate in rates.values())
  row = {"turns": len(ours), "seconds_median": float(np.median(ours)), "spread": spread(ours),
         "peak_memory_mib": peaks["ours"]}
  if case.kind != "cold_start":
    row |= {"flops": cases.flops(case), "flops_per_second": cases.flops(case) / row["seconds_median"]}
    row["share_of_matmul"] = row["flops_per_second"] / ceiling
    row["matmul_flops_per_second"] = {name: spread(rate) for name, rate in rates.items()}
  for peer, name in (("torch_compiled",) * 2, ("torch_eager",) * 2, ("separate", "separate_steps")):
    if peer in taken:
      ratios = spread(ours / np.array(taken[peer]))
      row |= {
          f"ratio_to_{name}": ratios["median"], f"ratio_to_{name}_spread": ratios,
          f"{peer}_seconds": spread(taken[peer]), f"{peer}_peak_memory_mib": peaks[peer],
          "peak_memory_ratio": peaks["ours"] / peaks[peer],  # the last peer's stays
      }
  return row


def _cold(sides: dict, seconds: float) -> dict[str, list[float]]:
  """Seconds from the start of a process to its first unit, sides in turn, with a warm compilation cache."""
  taken = {name: [] for name in sides}
  for _ in range(int(np.clip(seconds / 15, 1, 5))):
    for name, side in sides.items():
      with child.Child(*side) as started:
        taken[name].append(started.cold_seconds)
  return taken


def _growth(case: cases.Case, options: child.Options) -> dict:
  """Our seconds and peak memory as one field of the case grows."""
  (field, values), points = case.over, {}
  for value in values:
    point = dataclasses.replace(case, over=(), **{field: value})
    _compile(point, options)
    with child.Child(point, options) as side:
      taken, peak = [side.ask("time", _units(side)) for _ in range(5)], side.ready["peak_bytes"] / 2**20
    points[str(value)] = {"seconds": spread(taken), "flops": cases.flops(point), "peak_memory_mib": peak}
  return {"over": field, "points": points}
