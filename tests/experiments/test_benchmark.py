"""The benchmark: its FLOPs are the paper's, it times only equal computations, and it finds a worse ratio."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.bench import cases, child, jax_side, measure, report
from tests import ROOT, golden
from tests.experiments.test_experiments import error_of

LONG = cases.CASES["forward_243"]


def test_flops_are_those_that_the_paper_prints():
  assert f"{cases.token_flops(LONG) / 1e9:.2f}" == "277.26"
  assert f"{cases.token_flops(LONG, rank=4) / 1e9:.2f}" == "278.88"
  assert f"{3 * cases.token_flops(LONG, rank=4) / 1e9:.2f}" == "836.65"


@pytest.mark.parametrize("name", ["forward_27", "forward_243", "compact_gradient"])
def test_flops_are_those_of_xla_without_operations_that_are_no_matrix_product(name):
  case = dataclasses.replace(cases.CASES[name], width=128, depth=1, clips=1)
  model, params = jax_side.make_weights(case)
  clip = cases.clips(1, case.frames, 0)

  def call(params):
    return model.apply(params, clip["keypoints"], clip["poses"], np.zeros(1, np.int32))

  gradient = jax.grad(lambda params: call(params).sum())
  counted = jax.jit(gradient if case.kind == "gradient" else call).lower(params).cost_analysis()["flops"]
  assert 1.0 < counted / cases.flops(case) < 1.15


def test_flops_grow_with_clips_and_hypotheses():
  step = cases.CASES["adapt_step"]
  twice, alone, more = (cases.flops(dataclasses.replace(step, **changes))
                        for changes in ({"clips": 8}, {"hypotheses": 0}, {"hypotheses": 4}))
  per_hypothesis = step.clips * cases.forward_flops(step, cases.RANK)
  assert twice == 2 * cases.flops(step) and more - cases.flops(step) == per_hypothesis
  assert 3 < alone / per_hypothesis < 4.1  # the student: twice the clips, forward and a smaller backward pass


@pytest.fixture
def torch():
  found = pytest.importorskip("torch", reason="PyTorch is not installed: the peer is not tested")
  found.set_num_threads(1)
  return found


@pytest.mark.parametrize("fused", [False, True])
def test_golden_outputs_are_the_peers(torch, fused):
  from experiments.bench import torch_models

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
def test_the_peer_computes_the_same_from_the_same_random_numbers(torch, name):
  """Losses, gradients, poses and scores agree, also after a unit that trained the peer."""
  from experiments.bench import torch_side

  case = cases.CASES[name].smaller()
  given, ours = jax_side.make(case, child.Options("jax"))[1](None)
  run, check = torch_side.make(case, child.Options("torch", fused=True))
  run()
  found = measure.agreement(ours, check(given)[1])
  assert found and max(found.values()) < 2e-5, found
  broken = {key: value * np.float32(1.01) for key, value in given.items() if value.dtype == np.float32}
  with pytest.raises(ValueError, match="the case is not timed"):
    measure.agreement(ours, check({**given, **broken})[1])


def test_arrays_of_other_names_do_not_agree():
  with pytest.raises(ValueError, match="different arrays: loss"):
    measure.agreement({"pose": np.zeros(3)}, {"pose": np.zeros(3), "loss": np.ones(())})


def test_a_worse_ratio_is_a_regression_and_worse_seconds_are_none():
  row = {"what": "w", "dtype": "float32", "platform": "cpu", "ratio_to_torch_eager": 0.7, "peak_memory_ratio": 0.5}
  worse = row | {"ratio_to_torch_eager": 0.81, "seconds_median": 9.0}
  assert report.regressions({"a": worse}, {"a": row}) == ["a: ratio_to_torch_eager 0.81, was 0.70 (1.16 times)"]
  for new in (worse | {"ratio_to_torch_eager": 0.8}, worse | {"dtype": "bfloat16"}):
    assert not report.regressions({"a": new, "b": worse}, {"a": row})
  assert len(report.regressions({"a": worse | {"peak_memory_ratio": 0.6}}, {"a": row})) == 2


def test_a_results_file_adds_cases_and_refuses_another_machine(tmp_path):
  path = tmp_path / "results.json"
  report.add(path, {"machine": {"processor": "one"}, "cases": {"a": {}}})
  report.add(path, {"machine": {"processor": "one"}, "cases": {"b": {}}})
  with pytest.raises(ValueError, match="another machine"):
    report.add(path, {"machine": {"processor": "two"}, "cases": {"c": {}}})
  assert set(report.read(path)["cases"]) == {"a", "b"}
  path.write_text("[]")
  with pytest.raises(ValueError, match="no results of a benchmark"):
    report.read(path)


def test_an_unknown_case_is_one_line():
  assert "case adapt_setp is unknown; choose of forward_243" in error_of("benchmark", "--cases=adapt_setp")


def test_a_run_checks_times_and_writes_cases_of_every_sort(torch, tmp_path):
  unset = {"XLA_FLAGS", "PYTHONPATH"}
  environment = {key: value for key, value in os.environ.items() if key not in unset} | {"JAX_PLATFORMS": "cpu"}
  path = tmp_path / "results.json"
  command = (sys.executable, "-m", "experiments.benchmark", "--smoke", "--seconds=0.5", f"--json={path}",
             "--cases=compact_gradient,sweep,growth_steps")
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stderr[-3000:]
  results = json.loads(path.read_text())
  assert {"cases", "machine", "command", "versions"} <= set(results)
  row, sweep, growth = (results["cases"][name] for name in ("compact_gradient", "sweep", "growth_steps"))
  assert set(row["versions"]) == {"jax", "torch"}
  assert row["turns"] >= 3 and row["smoke"] and 0 < row["spread"]["min"] <= row["seconds_median"]
  low, high = row["ratio_to_torch_eager_spread"]["quartiles"]
  assert 0 < low <= row["ratio_to_torch_eager"] <= high
  assert row["peak_memory_ratio"] > 0 and row["share_of_matmul"] > 0
  assert row["agreement"]["gradient"] < 1e-3 and set(row["peer"]) == {"attention", "malloc_keeps_memory", "dtype"}
  assert sweep["agreement"].keys() == {"loss"} and sweep["ratio_to_separate_steps"] > 0
  assert set(growth["points"]) == {"1", "2"} and f"| {row['what']} |" in done.stdout
