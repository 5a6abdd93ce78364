"""Laws of K adaptations at once: padding changes nothing, and every member is the adaptation that it would be alone."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import adapters, bases, job, recipes, sweep, sweep_job
from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.adaptation.step import Setting, init_state
from posynda_jax.peft import lora
from posynda_jax.runtime import loop, parallel
from tests import scene
from tests.adaptation.batches import FRAMES, MEASURED, clips, run_steps
from tests.tolerance import assert_close

RECIPE = Recipe((PseudoLabels(),), 2, rate=1e-2, decay="cosine", updates=10, adapter=AdapterConfig(rank=2))
MEMBERS = {  # name -> (recipe, seed, seed of the target clips)
    "plain": (RECIPE, 0, 3),
    "weak": (dataclasses.replace(RECIPE, rate=3e-2, adapter=AdapterConfig(rank=1, scale=0.5)), 2, 4),
    "wide": (dataclasses.replace(RECIPE, adapter=AdapterConfig(rank=4)), 1, 3),
}
NAMES = tuple(MEMBERS)


@functools.cache  # members whose numbers differ share the program
def compiled(num_devices: int, at_once: int):
  setting = Setting(scene.tiny_model(FRAMES)[0])
  step = functools.partial(sweep.sweep_step, recipe=RECIPE, setting=setting, at_once=at_once)
  return parallel.make_parallel_step(step, jax.local_devices()[:num_devices])


def together(num_steps: int, names=NAMES, num_devices: int = 1, at_once: int = len(MEMBERS), **others: Recipe):
  """(stacked adapter, adapters by name, metrics) of several members in one step; `others` replace recipes."""
  base, chosen = scene.tiny_model(FRAMES)[1], [others.get(name, MEMBERS[name][0]) for name in names]
  init_keys, seed_keys = ([jax.random.key(MEMBERS[name][1] + offset) for name in names] for offset in range(2))
  frozen = base, MEASURED, sweep.find_numbers(chosen)
  arguments = sweep.init_members(init_keys, base, chosen, FRAMES), frozen, jnp.stack(seed_keys)
  state, frozen, keys = parallel.replicate(arguments, jax.local_devices()[:num_devices])
  data = {"target": jax.tree.map(lambda *x: np.stack(x, 1), *(clips(4, MEMBERS[name][2]) for name in names))}
  for _ in range(num_steps):
    state, metrics = compiled(num_devices, at_once)(state, frozen, parallel.shard(data, num_devices), keys)
  adapter, metrics = jax.device_get((state.adapter, metrics))
  metrics = {f"{names[int(key[0])]}/{key[2:]}" if "/" in key else key: value for key, value in metrics.items()}
  unstacked = sweep.unstack(adapter, [recipe.adapter.rank for recipe in chosen])
  return adapter, dict(zip(names, unstacked, strict=True)), metrics


def test_a_padded_adapter_computes_the_same_and_can_be_cut_back():
  _, base = scene.tiny_model(FRAMES)
  factors = jax.tree.map(lambda x: x + 0.1, lora.init(jax.random.key(0), base, 3))
  padded = sweep.pad_rank(factors, 7)
  assert {ab["a"].shape[-1] for ab in padded.values()} == {ab["b"].shape[0] for ab in padded.values()} == {7}
  assert_close(lora.merge(base, padded), lora.merge(base, factors))
  stacked = sweep.stack([{"lora": padded}])
  jax.tree.map(np.testing.assert_array_equal, sweep.unstack(stacked, [3]), [{"lora": factors}])
  with pytest.raises(ValueError, match="an adapter of rank 7 cannot be padded to 3"):
    sweep.pad_rank(padded, 3)


def test_every_member_is_the_adaptation_that_it_would_be_alone():
  stacked, found, metrics = together(5)
  base, (recipe, seed, target) = scene.tiny_model(FRAMES)[1], MEMBERS["weak"]
  state = init_state(jax.random.key(seed), base, recipe, FRAMES)
  state, expected = run_steps(recipe, 5, {"target": clips(4, target)}, seed=seed + 1, state=state)
  assert_close(found["weak"], state.adapter, updates=5)
  for metric, value in expected.items():
    np.testing.assert_allclose(metrics[f"weak/{metric}"], value, rtol=1e-3, err_msg=metric)
  np.testing.assert_allclose(metrics["loss"], np.mean([metrics[f"{name}/loss"] for name in NAMES]), rtol=1e-5)
  for i, (name, adapter) in enumerate(found.items()):
    assert adapter["bias"].any() and all(ab["b"].any() for ab in adapter["lora"].values())
    for ab in stacked["lora"].values():  # the padding stays zero
      rank = MEMBERS[name][0].adapter.rank
      assert not ab["a"][i, :, rank:].any() and not ab["b"][i, rank:].any()


def test_members_do_not_depend_on_each_other_in_any_order_or_grouping_and_devices_share_their_clips():
  """Losses and gradients are compared, because Adam turns the rounding of gradients near zero into whole steps."""
  (_, _, forwards), (_, _, backwards) = together(1), together(1, NAMES[::-1], 2, at_once=1)
  for name in (name for name in forwards if name.endswith(("loss", "grad_norm"))):
    np.testing.assert_allclose(backwards[name], forwards[name], rtol=1e-4, err_msg=name)


def test_a_member_that_diverges_harms_itself_alone():
  wild = dataclasses.replace(MEMBERS["wide"][0], rate=1e30)
  _, found, metrics = together(5, wide=wild)
  assert not np.isfinite(found["wide"]["bias"]).all() and not np.isfinite(metrics["wide/loss"])
  assert np.isfinite(metrics["loss"])
  _, unharmed, _ = together(5)
  for name in ("plain", "weak"):
    jax.tree.map(np.testing.assert_array_equal, found[name], unharmed[name])


def test_a_kernel_of_the_base_multiplies_the_rows_of_all_members_at_once():
  """No product with a frozen kernel has the members as a batch dimension, so kernels are never copied for them."""
  model, base = scene.tiny_model(FRAMES)
  adapter = adapters.init(jax.random.key(0), base, RECIPE.adapter)
  stacked = jax.tree.map(lambda x: jnp.stack([x] * 5), adapter)
  inputs = jnp.zeros((5, 4, FRAMES, 17, 2)), jnp.zeros((5, 4, FRAMES, 17, 3))

  def loss(adapter, keypoints, noisy):
    denoise = adapters.make_denoiser(model, base, adapter, 1.0, "factorised")
    return (denoise(keypoints, noisy, jnp.full(4, 9)) ** 2).sum()

  text = str(jax.make_jaxpr(jax.vmap(jax.grad(loss)))(stacked, *inputs))
  assert "dot_general" in text
  for rows, columns in {np.shape(leaf) for leaf in jax.tree.leaves(base) if np.ndim(leaf) == 2}:
    assert f"f32[5,{rows},{columns}]" not in text and f"f32[5,{columns},{rows}]" not in text


@pytest.mark.parametrize("other, message", [
    (dataclasses.replace(RECIPE, num_hypotheses=5), "members differ in more than rank, rate, scale, target and seed"),
    (dataclasses.replace(RECIPE, adapter=AdapterConfig(tune="full")), "a sweep stacks low-rank adapters"),
    (recipes.get("gan"), "a sweep does not carry what a lesson learns"),
])
def test_members_that_one_step_cannot_hold_are_refused(other, message):
  with pytest.raises(ValueError, match=message):
    sweep.find_numbers([RECIPE, other])


@pytest.fixture(scope="module")
def described(tiny_base, folders, tmp_path_factory) -> job.Job:
  return job.Job(
      Recipe((PseudoLabels(),), 1, clips=8, updates=4, rate=1e-3, decay="cosine", adapter=AdapterConfig(rank=2)),
      "synthetic_motion/target_gt", str(tiny_base), target_split="train[:2%]", test_split="test[:2%]", folders=folders,
      workdir=str(tmp_path_factory.mktemp("sweep") / "swept"), saving=loop.Saving(2, 2))


CHANGES = {"plain": {}, "other": {"seed": 3, "rank": 3, "adapt_rate": 2e-3}, "wild": {"adapt_rate": 1e30}}


@pytest.fixture(scope="module")
def swept(described) -> dict:
  """The results of three members, of which one diverges."""
  return sweep_job.run(described, CHANGES)


def test_a_members_folder_is_the_run_that_the_job_makes_alone(described, swept, tmp_path):
  adapter = dataclasses.replace(described.recipe.adapter, rank=3)
  recipe = dataclasses.replace(described.recipe, rate=2e-3, adapter=adapter)
  alone = dataclasses.replace(described, guard=False, recipe=recipe, seed=3, workdir=str(tmp_path / "alone"))
  one = job.run(alone)
  folder = pathlib.Path(described.workdir) / "other"
  assert (folder / "config.json").read_text() == (one.folder / "config.json").read_text()
  assert swept["other"]["protocol"] == one.protocol
  for row in ("source_only", "adapted"):
    assert set(swept["other"][row]) == set(one.scores[row])
    np.testing.assert_allclose(swept["other"][row]["mpjpe_mm"], one.scores[row]["mpjpe_mm"], rtol=1e-4)
  made, expected = (
      {path.name for part in ("", "figures") for path in (at / part).iterdir()} for at in (folder, one.folder)
  )
  assert made == expected - {"checkpoints"}
  assert_close(bases.load_weights(folder).adapter, one.adapted.adapter, updates=4)


def test_a_sweep_that_is_started_again_goes_on_and_its_members_are_compared(described, swept, capsys):
  folder = pathlib.Path(described.workdir)
  assert swept["wild"] == {"changes": {"adapt_rate": 1e30}, "diverged": True} and not (folder / "wild/adapted").exists()
  again = sweep_job.run(described, CHANGES)
  out = capsys.readouterr().out
  assert "Resuming sweep at step 4" in out and "wild diverged and has no adapter; the others are not affected" in out
  assert again["other"]["adapted"]["mpjpe_mm"] == swept["other"]["adapted"]["mpjpe_mm"]
  assert json.loads((folder / "sweep.json").read_text())["members"]["other"]["changes"] == CHANGES["other"]
  head, _, *rows = (folder / "sweep.md").read_text().splitlines()
  assert head.split()[1:-1:2] == ["member", "seed", "rank", "adapt_rate", "source-only", "adapted"] and len(rows) == 3
  assert "diverged" in rows[2]


@pytest.mark.parametrize("text, expected", [
    ("seed=0,1; rank=2", {"seed_0-rank_2": {"seed": 0, "rank": 2}, "seed_1-rank_2": {"seed": 1, "rank": 2}}),
    ('[{"name": "a b", "adapt_rate": 1e-3}, {"target_split": "train[:1%]"}]',
     {"a_b": {"adapt_rate": 1e-3}, "target_split_train_1": {"target_split": "train[:1%]"}}),
    ("hypotheses=3,5", "changes 'hypotheses', which members of one step share: sweep rank, adapt_rate"),
    ("seed=1,1", "'seed_1' is the name of another member or of the sweep itself"),
    ("seed=1;seed=2", "names a flag twice: give all its values at once, as seed=0,1,2"),
    ("rank=2,many", "member rank_many has rank=many"), (";", "has no members: write it as seed=0,1,2;rank=2,4"),
    ("[{", "members.json is not a list of members"), ('{"seed": 1}', "members.json is not a list of members"),
    ('[{"name": "figures"}]', "'figures' is the name of another member or of the sweep itself"),
])
def test_members_are_all_combinations_or_a_files_list_and_others_are_refused(text, expected, tmp_path):
  path = tmp_path / "members.json"
  path.write_text(text)
  given = str(path) if text[0] in "[{" else text
  if isinstance(expected, dict):
    assert sweep_job.read_members(given) == expected
    return
  with pytest.raises(ValueError, match=expected):
    sweep_job.read_members(given)
