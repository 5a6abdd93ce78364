"""The benchmark: it counts FLOPs as the paper, times only what computes the same on both sides, and notices what got worse."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import cases, child, jax_side, measure, profile, report
from tests import golden
from tests.experiments.test_experiments import ROOT, error_of

LONG = cases.CASES["forward_243"]


def test_flops_are_those_that_the_paper_prints():
  assert f"{cases.token_flops(LONG) / 1e9:.2f}" == "277.26"
  assert f"{cases.token_flops(LONG, rank=4) / 1e9:.2f}" == "278.88"
  assert f"{3 * cases.token_flops(LONG, rank=4) / 1e9:.2f}" == "836.65"


@pytest.mark.parametrize("name", ["forward_27", "forward_243", "compact_gradient"])
def test_flops_are_those_that_xla_counts_but_for_what_is_no_matrix_product(name):
  case = dataclasses.replace(cases.CASES[name], width=128, depth=1, clips=1)
  model, params = jax_side.make_weights(case)
  clip = cases.clips(1, case.frames, 0)
  call = lambda params: model.apply(params, clip["keypoints"], clip["poses"], np.zeros(1, np.int32))
  if case.kind == "gradient":
    call = jax.grad(lambda params, call=call: call(params).sum())
  counted = jax.jit(call).lower(params).cost_analysis()["flops"]
  assert 1.0 < counted / cases.flops(case) < 1.15


def test_flops_grow_as_they_should():
  step = cases.CASES["adapt_step"]
  grow = lambda **fields: cases.flops(dataclasses.replace(step, **fields))
  assert grow(clips=8) == 2 * cases.flops(step)
  per_hypothesis = grow(hypotheses=4) - grow(hypotheses=3)
  assert per_hypothesis == step.clips * cases.forward_flops(step, cases.RANK)
  assert 3 < grow(hypotheses=0) / per_hypothesis < 4.1  # twice the clips, forward and not quite as much backward


def peer():
  pytest.importorskip("torch", reason="PyTorch is not installed: the peer is not tested")
  import torch

  from experiments.bench import torch_models, torch_side

  torch.set_num_threads(1)
  return torch_models, torch_side


@pytest.mark.parametrize("fused", [False, True])
def test_golden_outputs_are_the_peers(fused):
  torch_models, _ = peer()
  import torch

  arrays = golden.load("mixste_small")
  config = arrays["config"]
  fields = [config[key] for key in ("num_frame", "num_joints", "embed_dim", "depth", "num_heads", "mlp_ratio")]
  network = torch_models.MixSTE(*fields, diffusion=True)
  for block in (*network.STEblocks, *network.TTEblocks):
    block.attn.fused = fused
  network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in golden.params(arrays).items()})
  with torch.no_grad():
    out = network(*(torch.from_numpy(arrays[key]) for key in ("x_2d", "x_3d", "t")))
  np.testing.assert_allclose(out.numpy(), arrays["out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["adapt_step", "inference_k5", "pretrain_step", "evaluation"])
def test_the_peer_computes_what_we_compute(name):
  """Pseudo-labels, losses, gradients, poses and scores from the same numbers; also after units of work that trained the peer."""
  _, torch_side = peer()
  case = cases.CASES[name].smaller()
  _, ours = jax_side.make(case, child.Options("jax"))
  run, theirs = torch_side.make(case, child.Options("torch", fused=True))
  given, arrays = jax.tree.map(np.array, ours())
  run()
  found = measure.agreement(arrays, theirs(given))
  assert found and max(found.values()) < 2e-5, found
  broken = {key: value * np.float32(1.01) for key, value in given.items() if value.dtype == np.float32}
  with pytest.raises(ValueError, match="the case is not timed"):
    measure.agreement(arrays, theirs({**given, **broken}))


def test_arrays_of_other_names_do_not_agree():
  with pytest.raises(ValueError, match="different arrays: loss"):
    measure.agreement({"pose": np.zeros(3)}, {"pose": np.zeros(3), "loss": np.ones(())})


def test_a_worse_ratio_is_a_regression_and_worse_seconds_are_none():
  row = {"what": "w", "dtype": "float32", "platform": "cpu", "ratio_to_torch_eager": 0.7, "peak_memory_ratio": 0.5}
  worse = row | {"ratio_to_torch_eager": 0.81, "seconds_median": 9.0}
  assert report.regressions({"a": worse}, {"a": row}) == ["a: ratio_to_torch_eager 0.81, was 0.70 (1.16 times)"]
  assert not report.regressions({"a": row | {"ratio_to_torch_eager": 0.8, "seconds_median": 9.0}}, {"a": row})
  assert not report.regressions({"a": worse | {"dtype": "bfloat16"}, "b": worse}, {"a": row})
  assert len(report.regressions({"a": worse | {"peak_memory_ratio": 0.6}}, {"a": row})) == 2


def test_the_profile_tells_products_from_copies_and_passes_and_counts_their_flops():
  """Also where XLA wraps a product in a fusion or runs it in a loop, on any of the forms that a program's text has."""
  arrays = [jnp.ones(shape) for shape in ((64, 96), (96, 48), (4, 8, 16), (4, 16, 8), (96, 4))]
  compute = lambda a, b, c, d, e: (jnp.tanh(a @ b), c @ d, jax.lax.map(lambda x: jnp.sin(x) @ e, a[:, None]))
  text = jax.jit(compute).lower(*arrays).compile().as_text()
  found = set(profile.read_program(text).values())
  assert {profile.Operation("wide", 2.0 * 64 * 96 * 48), profile.Operation("attention", 2.0 * 4 * 8 * 8 * 16)} <= found
  assert profile.Operation("passes") in found


def test_results_of_another_machine_or_of_nothing_are_refused_and_kept(tmp_path):
  path = tmp_path / "results.json"
  report.add(path, {"machine": {"processor": "one"}, "cases": {"a": {}}})
  report.add(path, {"machine": {"processor": "one"}, "cases": {"b": {}}})
  assert set(report.read(path)["cases"]) == {"a", "b"}
  with pytest.raises(ValueError, match="another machine"):
    report.add(path, {"machine": {"processor": "two"}, "cases": {"c": {}}})
  assert set(report.read(path)["cases"]) == {"a", "b"}
  (tmp_path / "list.json").write_text("[]")
  with pytest.raises(ValueError, match="no results of a benchmark"):
    report.read(tmp_path / "list.json")


def test_an_unknown_case_is_one_line():
  assert "case adapt_setp is unknown; choose of forward_243" in error_of("benchmark", "--cases=adapt_setp")


def test_a_run_checks_times_draws_and_compares_with_a_baseline(tmp_path):
  peer()
  environment = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "PYTHONPATH")} | {"JAX_PLATFORMS": "cpu"}
  path = tmp_path / "results.json"
  command = [sys.executable, "-m", "experiments.benchmark", "--smoke", "--seconds=0.5", f"--json={path}"]
  run = lambda *flags: subprocess.run([*command, *flags], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
  done = run("--cases=compact_gradient", "--profile", f"--picture={tmp_path}/ratios.png")
  assert done.returncode == 0, done.stderr[-3000:]
  results = json.loads(path.read_text())
  assert {"cases", "machine", "command", "versions"} <= set(results) and set(results["versions"]) == {"jax", "torch"}
  row = results["cases"]["compact_gradient"]
  assert row["turns"] >= 3 and row["smoke"] and 0 < row["spread"]["min"] <= row["seconds_median"]
  low, high = row["ratio_to_torch_eager_spread"]["quartiles"]
  assert 0 < low <= row["ratio_to_torch_eager"] <= high and row["peak_memory_ratio"] > 0 and 0 < row["share_of_matmul"]
  assert row["agreement"]["gradient"] < 1e-3 and row["peer"].keys() == {"attention", "malloc_keeps_memory", "dtype"}
  kinds = row["profile"]["kinds"]
  assert kinds["low_rank"]["flops"] > 0 and kinds["attention"]["flops"] > 0 and kinds["passes"]["seconds"] > 0
  assert sum(kind["share"] for kind in kinds.values()) < 1.2 and "| products of attention |" in done.stdout
  assert (tmp_path / "ratios.png").stat().st_size > 5000
  assert re.search(r"compact_gradient +[\d.e-]+ +[\d.e-]+ +[\d.]+ +[\d.]+-[\d.]+ +0\.8", done.stdout)
