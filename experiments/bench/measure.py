"""Rows of results: starts the processes of a case, checks that the sides agree, and times them in turn."""

import contextlib
import dataclasses
import itertools
import tempfile

import numpy as np

from . import cases, child

LIMITS = {"float32": 1e-4, "bfloat16": 5e-2}  # of disagreement; ten times as much for gradients
MIN_TURN = 0.2  # seconds


def spread(values) -> dict:
  """Median, minimum and quartiles."""
  low, median, high = np.percentile(values, (25, 50, 75))
  return {"median": float(median), "min": float(np.min(values)), "quartiles": [float(low), float(high)]}


def agreement(ours: dict, peer: dict, dtype: str = "float32") -> dict[str, float]:
  """Differences of our arrays from the peer's: largest of `pose` (m), relative norm of the gradient, largest relative of others.

  Raises ValueError where a difference is above its limit, or where the sides return different arrays.
  """
  if set(ours) != set(peer):
    raise ValueError(f"the sides return different arrays: {', '.join(sorted(set(ours) ^ set(peer))[:4])}")
  names, found = sorted(name for name in ours if name.startswith("gradient/")), {}
  if names:
    flat, peer_flat = (np.concatenate([side[name].ravel() for name in names]).astype(np.float64) for side in (ours, peer))
    found["gradient"] = float(np.linalg.norm(flat - peer_flat) / np.linalg.norm(peer_flat))
  for name in sorted(set(ours) - set(names)):
    scale = 1.0 if name == "pose" else float(np.abs(peer[name]).max())
    found[name] = float(np.abs(ours[name] - peer[name]).max() / scale)
  for name, value in found.items():
    limit = LIMITS[dtype] * (10 if name == "gradient" else 1)
    if not value <= limit:
      raise ValueError(f"{name} differs by {value:.2g} between the sides, at most {limit:g} is allowed: the case is not timed")
  return found


def check(ours: child.Child, peer: child.Child, dtype: str) -> dict[str, float]:
  """`agreement` of two processes on the same random numbers."""
  with tempfile.TemporaryDirectory() as folder:
    given, mine, theirs = (f"{folder}/{name}.npz" for name in ("given", "ours", "peer"))
    ours.ask("check", (given, mine))
    peer.ask("check", (given, theirs))
    return agreement(dict(np.load(mine)), dict(np.load(theirs)), dtype)


def measure(case: cases.Case, seconds: float, dtype: str = "float32", with_peer: bool = True, quick: bool = False):
  """(row of results, versions) of a case, timed for about `seconds`. `quick` does not search the fastest peer.

  Raises ValueError where the sides disagree or a process ends.
  """
  ours = child.Options("jax", dtype=dtype)
  ready = _compile(case, ours)
  row = {"what": case.what, "dtype": dtype, "platform": ready["platform"]}
  versions = {name: ready[name] for name in ("jax", "device_kind")}
  if case.over:
    return row | _growth(case, ours), versions
  if case.kind == "sweep":
    return row | _sweep(case, ours, seconds, dtype), versions
  options = {"ours": ours}
  if with_peer:
    device = "cuda" if ready["platform"] == "gpu" else "cpu"
    peer = child.Options("torch", keep=False, device=device) if quick else fastest_peer(case, device, dtype)
    options["eager"] = peer
    attention = "scaled_dot_product_attention" if peer.fused else "plain"
    row["peer"] = {"attention": attention, "malloc_keeps_memory": peer.keep, "dtype": peer.dtype}
  with contextlib.ExitStack() as stack:
    sides = {name: stack.enter_context(child.Child(case, how)) for name, how in options.items()}
    if with_peer:
      row["agreement"] = check(sides["ours"], sides["eager"], dtype)
      versions["torch"] = sides["eager"].ready["torch"]
    taken, rates = take_turns(sides, seconds)
    peaks = {name: side.ready["peak_bytes"] / 2**20 for name, side in sides.items()}
  if case.kind == "cold_start":
    taken = _cold(case, options, seconds)
  return row | _row(case, taken, rates, peaks), versions


def _compile(case: cases.Case, ours: child.Options) -> dict:
  """Starts our side once, so that later starts read its program from the compilation cache. Returns what it says of itself."""
  with child.Child(case, ours) as side:
    return side.ready


def fastest_peer(case: cases.Case, device: str, dtype: str) -> child.Options:
  """The fastest options of the peer on one depth of the case: attention, our dtype or float32, and malloc on a CPU."""
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
  rounds = int(np.clip(seconds / sum(units[name] * side.ready["seconds"][-1] for name, side in sides.items()), 3, 25))
  taken, rates = {name: [] for name in sides}, {name: [] for name in sides}
  for _ in range(rounds):
    for name, side in sides.items():
      taken[name].append(side.ask("time", units[name]))
    for name, side in sides.items():
      rates[name].append(side.ask("matmul"))
  return taken, rates


def _row(case: cases.Case, taken: dict, rates: dict, peaks: dict) -> dict:
  """Medians, spreads, ratios, memory and FLOP/s of the turns."""
  ours, ceiling = np.array(taken["ours"]), max(float(np.median(rate)) for rate in rates.values())
  row = {"turns": len(ours), "seconds_median": float(np.median(ours)), "spread": spread(ours), "peak_memory_mib": peaks["ours"]}
  shares = {name: cases.flops(case) / float(np.median(taken[name])) / ceiling for name in taken}
  if case.kind != "cold_start":
    row |= {"flops": cases.flops(case), "flops_per_second": cases.flops(case) / row["seconds_median"]}
    row["share_of_matmul"] = shares["ours"]
    row["matmul_flops_per_second"] = {name: spread(rate) for name, rate in rates.items()}
  if "eager" in taken:
    ratios = spread(ours / np.array(taken["eager"]))
    row |= {"ratio_to_torch_eager": ratios["median"], "ratio_to_torch_eager_spread": ratios}
    row |= {"torch_eager_seconds": spread(taken["eager"]), "torch_eager_peak_memory_mib": peaks["eager"]}
    row["peak_memory_ratio"] = peaks["ours"] / peaks["eager"]
    if case.kind != "cold_start":
      row["torch_eager_share_of_matmul"] = shares["eager"]
  return row


def _cold(case: cases.Case, options: dict[str, child.Options], seconds: float) -> dict[str, list[float]]:
  """Seconds from the start of a process to its first unit, sides in turn, with a warm compilation cache."""
  taken = {name: [] for name in options}
  for _ in range(int(np.clip(seconds / 15, 1, 5))):
    for name, how in options.items():
      with child.Child(case, how) as side:
        taken[name].append(side.cold_seconds)
  return taken


def _sweep(case: cases.Case, ours: child.Options, seconds: float, dtype: str) -> dict:
  """A step of all members beside as many steps of one, which must have the first member's loss."""
  single = dataclasses.replace(case, kind="adapt", members=1)
  _compile(single, ours)
  with child.Child(case, ours) as sweep, child.Child(single, ours) as one, tempfile.TemporaryDirectory() as folder:
    losses = []
    for side, path in ((sweep, f"{folder}/sweep.npz"), (one, f"{folder}/one.npz")):
      side.ask("check", (f"{folder}/given.npz", path))
      losses.append({"loss": np.load(path)["loss"]})
    row = {"agreement": agreement(*losses, dtype)}
    taken, rates = take_turns({"ours": sweep, "separate": one}, seconds)
    taken["separate"] = [case.members * value for value in taken["separate"]]
    ratios = spread(np.array(taken["ours"]) / np.array(taken["separate"]))
    row |= _row(case, {"ours": taken["ours"]}, rates, {"ours": sweep.ready["peak_bytes"] / 2**20})
    row |= {"ratio_to_separate_steps": ratios["median"], "ratio_to_separate_steps_spread": ratios}
    return row | {"separate_seconds": spread(taken["separate"]), "one_peak_memory_mib": one.ready["peak_bytes"] / 2**20}


def _growth(case: cases.Case, ours: child.Options) -> dict:
  """Our seconds and peak memory as one field of the case grows."""
  field, values = case.over
  points = {}
  for value in values:
    point = dataclasses.replace(case, over=(), **{field: value})
    _compile(point, ours)
    with child.Child(point, ours) as side:
      taken, peak = [side.ask("time", _units(side)) for _ in range(5)], side.ready["peak_bytes"] / 2**20
    points[str(value)] = {"seconds": spread(taken), "flops": cases.flops(point), "peak_memory_mib": peak}
  return {"over": field, "points": points}
