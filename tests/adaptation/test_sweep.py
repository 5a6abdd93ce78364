"""Laws of K adaptations at once: padding changes nothing, and every member is the adaptation it would be alone."""

import dataclasses
import functools
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import adapt, sweep
from posynda_jax.peft import lora
from posynda_jax.runtime import parallel
from tests import scene
from tests.adaptation.test_adaptation import FRAMES, clips
from tests.experiments.test_experiments import ROOT, SMOKE, run_well

CONFIG = adapt.AdaptConfig(rank=2, learning_rate=1e-2, decay="cosine", num_steps=10, tilt="teacher", num_hypotheses=2)
MEMBERS = {  # name -> (changes, seed, seed of the target clips)
    "plain": ({}, 0, 3),
    "wide": (dict(rank=4, learning_rate=3e-2, tilt_deg=5.0), 1, 4),
    "weak": (dict(rank=1, scale=0.5, pseudo_weight=0.3, teacher_ema=0.9), 2, 3),
}
CONFIGS = {name: dataclasses.replace(CONFIG, **changes) for name, (changes, _, _) in MEMBERS.items()}


def data(target_seed: int) -> dict:
  return {"source": clips(4, 1, labelled=True), "target": clips(4, target_seed)}


def alone(name: str, num_steps: int):
  """The adapter of one member, trained by `adapt_step` as `adapt` does."""
  model, base = scene.tiny_model(FRAMES)
  (_, seed, target), config = MEMBERS[name], CONFIGS[name]
  devices = jax.local_devices()[:1]
  static = dict(model=model, config=config, rig=None, tx=adapt.make_optimizer(config))
  step = parallel.make_parallel_step(functools.partial(adapt.adapt_step, **static), devices)
  state = adapt.init_state(jax.random.key(seed), base, config)
  state, base, key = parallel.replicate((state, base, jax.random.key(seed + 1)), devices)
  for _ in range(num_steps):
    state, scalars = step(state, base, parallel.shard(data(target), 1), key)
  return jax.device_get((state.adapter, scalars))


@functools.cache  # members whose numbers differ share the program
def compiled(names: tuple[str, ...], num_devices: int, at_once: int):
  model, _ = scene.tiny_model(FRAMES)
  static = dict(model=model, config=CONFIGS[names[0]], rig=None, names=names, at_once=at_once)
  return parallel.make_parallel_step(functools.partial(sweep.sweep_step, **static), jax.local_devices()[:num_devices])


def together(names, num_steps: int, configs=CONFIGS, num_devices: int = 1, at_once: int = len(MEMBERS)):
  """(stacked adapter, adapters by name, scalars) of several members in one step."""
  base, chosen = scene.tiny_model(FRAMES)[1], [configs[name] for name in names]
  keys = lambda offset: [jax.random.key(MEMBERS[name][1] + offset) for name in names]
  arguments = sweep.init_state(keys(0), base, chosen), (base, sweep.settings(chosen)), jnp.stack(keys(1))
  state, frozen, seed_keys = parallel.replicate(arguments, jax.local_devices()[:num_devices])
  batch = jax.tree.map(lambda *leaves: np.stack(leaves, 1), *(data(MEMBERS[name][2]) for name in names))
  for _ in range(num_steps):
    state, scalars = compiled(names, num_devices, at_once)(state, frozen, parallel.shard(batch, num_devices), seed_keys)
  adapter, scalars = jax.device_get((state.adapter, scalars))
  return adapter, dict(zip(names, sweep.unstack(adapter, [config.rank for config in chosen]), strict=True)), scalars


def assert_close(ours, theirs, atol: float = 1e-5):
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=atol), ours, theirs)


def test_a_padded_adapter_computes_the_same_and_can_be_cut_back():
  model, base = scene.tiny_model(FRAMES)
  factors = lora.init(jax.random.key(0), base, 3)
  factors = jax.tree.map(lambda x: x + 0.1, factors)
  padded = sweep.pad_rank(factors, 7)
  assert {ab["a"].shape[-1] for ab in padded.values()} == {ab["b"].shape[0] for ab in padded.values()} == {7}
  merged = jax.tree.leaves(lora.merge(base, factors))
  for ours, theirs in zip(jax.tree.leaves(lora.merge(base, padded)), merged, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, sweep.cut_rank(padded, 3), factors)
  with pytest.raises(ValueError, match="an adapter of rank 7 cannot be padded to 3"):
    sweep.pad_rank(padded, 3)


def test_every_member_is_the_adaptation_it_would_be_alone():
  names = tuple(MEMBERS)
  stacked, adapters, scalars = together(names, 5)
  for i, name in enumerate(names):
    theirs, their_scalars = alone(name, 5)
    assert_close(adapters[name], theirs)
    assert adapters[name]["bias"].any() and all(ab["b"].any() for ab in adapters[name]["lora"].values())
    assert_close({key: scalars[f"{name}/{key}"] for key in their_scalars}, their_scalars, 1e-3)
    for ab in stacked["lora"].values():  # the padding was never touched
      rank = CONFIGS[name].rank
      assert not ab["a"][i, :, rank:].any() and not ab["b"][i, rank:].any()
  np.testing.assert_allclose(scalars["loss"], np.mean([scalars[f"{name}/loss"] for name in names]), rtol=1e-6)


def test_members_do_not_see_each_other_in_any_order_or_grouping():
  _, forwards, _ = together(("plain", "wide", "weak"), 3)
  _, backwards, _ = together(("weak", "wide", "plain"), 3, at_once=1)
  assert_close(forwards, backwards)


def test_devices_share_the_clips_of_every_member():
  """Losses and gradients, which come before Adam: it would magnify rounding of near-zero gradients into whole steps."""
  _, _, ours = together(tuple(MEMBERS), 1)
  _, _, theirs = together(tuple(MEMBERS), 1, num_devices=2)
  same = lambda scalars: {key: value for key, value in scalars.items() if key.endswith(("loss", "grad_norm"))}
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), same(theirs), same(ours))


def test_a_member_that_diverges_harms_itself_only():
  configs = CONFIGS | {"wide": dataclasses.replace(CONFIGS["wide"], learning_rate=1e30)}
  _, adapters, scalars = together(tuple(MEMBERS), 4, configs)
  assert not np.isfinite(adapters["wide"]["bias"]).all() and not np.isfinite(scalars["wide/loss"])
  assert np.isfinite(scalars["loss"])
  _, unharmed, _ = together(tuple(MEMBERS), 4)
  assert_close([adapters[name] for name in ("plain", "weak")], [unharmed[name] for name in ("plain", "weak")])


def test_a_kernel_of_the_base_multiplies_the_rows_of_all_members_at_once():
  """No product with a frozen kernel has the members as a batch dimension: the kernels are never copied for them."""
  model, base = scene.tiny_model(FRAMES)
  adapters = jax.tree.map(lambda x: jnp.stack([x] * 5), adapt.init_adapter(jax.random.key(0), base, CONFIG))
  inputs = jnp.zeros((5, 4, FRAMES, 17, 2)), jnp.zeros((5, 4, FRAMES, 17, 3))
  denoiser = lambda adapter: adapt.make_denoiser(model, base, adapter, 1.0, "factorised")
  loss = lambda adapter, seen, noisy: (denoiser(adapter)(seen, noisy, jnp.full(4, 9)) ** 2).sum()
  text = str(jax.make_jaxpr(jax.vmap(jax.grad(loss)))(adapters, *inputs))
  kernels = {np.shape(leaf) for leaf in jax.tree.leaves(base) if np.ndim(leaf) == 2}
  assert "dot_general" in text
  for rows, columns in kernels:
    assert f"f32[5,{rows},{columns}]" not in text and f"f32[5,{columns},{rows}]" not in text


def test_what_one_step_cannot_vary_is_refused():
  with pytest.raises(ValueError, match=r"members differ in num_hypotheses \(2, 5\): one step can vary rank, learning_rate"):
    sweep.settings([CONFIG, dataclasses.replace(CONFIG, num_hypotheses=5)])
  assert set(sweep.settings(list(CONFIGS.values()))) == set(sweep.NUMBERS)
  assert not sweep.settings([CONFIG, dataclasses.replace(CONFIG, rank=7)])


@pytest.fixture(scope="module")
def swept(tmp_path_factory, data, smoke_base) -> tuple[pathlib.Path, list[str]]:
  """A finished sweep of three members, one of which diverges: (its parent folder, the flags)."""
  root = tmp_path_factory.mktemp("sweep")
  members = [{"name": "plain"}, {"name": "other", "seed": 3, "rank": 3, "adapt_rate": 2e-3}, {"name": "wild", "adapt_rate": 1e30}]
  (root / "members.json").write_text(json.dumps(members))
  flags = [SMOKE, data, smoke_base, "--source=none", "--pseudo_label=mean", "--log_every=2"]
  out = run_well("adapt", *flags, f"--workdir={root}/swept", f"--sweep={root}/members.json")
  assert "wild diverged" in out and "| other | 3 | 3 | 0.002 |" in out
  return root, flags


def test_a_members_folder_is_the_run_that_adapt_alone_makes(swept):
  root, flags = swept
  run_well("adapt", *flags, f"--workdir={root}/alone", "--seed=3", "--rank=3", "--adapt_rate=2e-3")
  read = lambda folder, name: json.loads((root / folder / name).read_text())
  assert read("alone", "config.json") == read("swept/other", "config.json")
  ours, theirs = read("swept/other", "metrics.json"), read("alone", "metrics.json")
  assert ours["protocol"] == theirs["protocol"]
  for row in ("source_only", "adapted"):
    assert set(ours[row]) == set(theirs[row])
    np.testing.assert_allclose(ours[row]["mpjpe_mm"], theirs[row]["mpjpe_mm"], rtol=1e-4)
  made = lambda folder: {path.name for part in ("", "figures") for path in (root / folder / part).iterdir()}
  assert made("swept/other") == made("alone") - {"checkpoints"}
  dataset = ("--dataset=synthetic_motion/target_gt", "--split=test[:2%]")
  scored = run_well("evaluate", flags[1], f"--run={root}/swept/other", *dataset)
  assert abs(float(re.search(r"MPJPE ([\d.]+)", scored)[1]) - theirs["adapted"]["mpjpe_mm"]) < 0.06


def test_a_sweep_that_is_started_again_goes_on_and_its_members_are_compared(swept):
  root, flags = swept
  before = json.loads((root / "swept" / "sweep.json").read_text())["members"]
  assert before["wild"] == {"changes": {"adapt_rate": 1e30}, "diverged": True} and not (root / "swept/wild/adapted").exists()
  again = run_well("adapt", *flags, f"--workdir={root}/swept", f"--sweep={root}/members.json")
  assert "Resuming sweep at step 6" in again
  after = json.loads((root / "swept" / "sweep.json").read_text())["members"]
  assert after["other"]["adapted"]["mpjpe_mm"] == before["other"]["adapted"]["mpjpe_mm"]
  assert len((root / "swept" / "sweep.md").read_text().splitlines()) == 5


def test_what_cannot_be_swept_is_said_in_a_line(tmp_path):
  (tmp_path / "broken.json").write_text("[{")
  (tmp_path / "object.json").write_text('{"seed": 1}')
  cases = {
      "hypotheses=3,5": "member hypotheses_3 changes 'hypotheses', which members of one step share: sweep rank, adapt_rate",
      "seed=1,1": "two members are called 'seed_1': give each its own name",
      "seed=1;seed=2": "names a flag twice: give all its values at once, as seed=0,1,2",
      "rank=2,many": "member rank_many has rank=many",
      ";": "has no members: write it as seed=0,1,2;rank=2,4",
      f"{tmp_path}/broken.json": "broken.json is no JSON",
      f"{tmp_path}/object.json": "object.json is not a list of members",
  }
  script = """if True:
    import sys
    from experiments import adapt, sweep
    for text in sys.argv[1:]:
      try:
        sweep.read(text)
      except ValueError as error:
        print(error)
  """
  done = subprocess.run([sys.executable, "-c", script, *cases], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  for line, message in zip(done.stdout.splitlines(), cases.values(), strict=True):
    assert message in line
