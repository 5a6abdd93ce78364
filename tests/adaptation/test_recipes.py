"""Recipes and adapters: the paper's settings, refusals, and fresh adapters, which change nothing."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import adapters, base_job, bases, recipes, step
from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.adaptation.lessons.placed import Synthesis
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.lessons.target_labels import TargetLabels
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.peft import lora
from tests import scene
from tests.adaptation.batches import FRAMES, clips
from tests.diffusion.test_videopose import tiny
from tests.tolerance import assert_close

PAPER = (Synthesis(), PseudoLabels())


def test_the_papers_settings_are_the_defaults():
  paper = recipes.get("posynda")
  assert paper == Recipe(PAPER) and PAPER == (Synthesis(), PseudoLabels(select="frame"))
  assert (paper.num_hypotheses, paper.sampling_steps, paper.clips, paper.updates) == (3, 1, 4, 1000)
  assert paper.adapter == AdapterConfig(tune="lora", rank=4, scale=1.0, rule=None, bias=True)


@pytest.mark.parametrize("recipe, sizes", [
    (recipes.get("posynda"), [6e-5, 6e-5, 6e-5]), (recipes.get("novel", updates=2), [1e-3, 5e-4, 0]),
])
def test_adam_has_the_recipes_rate_and_decay(recipe, sizes):
  """Adam's update is the rate where all gradients are alike."""
  tx, gradient = step.make_optimizer(recipe), jnp.ones(3)
  state = tx.init(gradient)
  for size in sizes:
    update, state = tx.update(gradient, state)
    np.testing.assert_allclose(update, -size, rtol=1e-3, atol=1e-9)


def test_the_papers_model_trains_49152_parameters_a_rank_and_51():
  model = make_model(base_job.get("paper").model)
  base = jax.eval_shape(lambda: bases.init_variables(jax.random.key(0), model))
  assert adapters.num_trainable(base, AdapterConfig(rank=1)) == 49_152 + 51
  assert adapters.num_trainable(base, AdapterConfig(rank=16, bias=False)) == 49_152 * 16


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_description_is_json_and_names_every_setting_of_every_lesson(name):
  recipe = recipes.get(name)
  found = json.loads(json.dumps(recipes.describe(recipe)))
  assert set(found) == {field.name for field in dataclasses.fields(Recipe)}
  for described, lesson in zip(found["lessons"], recipe.lessons, strict=True):
    assert described == {"name": type(lesson).__name__, **dataclasses.asdict(lesson)}
  assert adapters.from_settings(found) == recipe.adapter


def test_a_ceiling_has_the_same_adapter_and_as_many_labelled_clips_as_all_lessons_together():
  one, two = recipes.get("seen"), recipes.get("novel_large")
  assert recipes.ceiling_of(two) == dataclasses.replace(two, lessons=(TargetLabels(),), clips=2 * two.clips)
  assert recipes.ceiling_of(one).clips == one.clips and recipes.ceiling_of(one).is_ceiling
  assert {name for name, recipe in recipes.RECIPES.items() if not recipe.needs_source} == {"free", "ceiling"}
  assert {name for name, recipe in recipes.RECIPES.items() if recipe.is_ceiling} == {"ceiling"}


@pytest.mark.parametrize("make, message", [
    (lambda: PseudoLabels(select="video"), "select 'video' is unknown; choose one of sequence, frame, joint"),
    (lambda: recipes.get("tilt"), "recipe 'tilt' is unknown; choose one of posynda, f, seen"),
    (lambda: Recipe(()), "nothing to learn from"),
    (lambda: Recipe(PAPER, decay="step"), "decay 'step' is unknown; choose one of constant, cosine"),
    (lambda: AdapterConfig(tune="dora"), "tune 'dora' is unknown; choose one of lora, full"),
    (lambda: adapters.from_settings({"rank": 4, "tilt": 0}), r"of another version of posynda_jax \(rank, tilt\)"),
    (lambda: adapters.from_settings({"adapter": {"rank": 4, "dora": 1}}), r"another version .*\(dora, rank\)"),
    (lambda: adapters.init(jax.random.key(0), scene.tiny_model()[1], AdapterConfig(rank=17)), "rank 17 does not fit"),
])
def test_an_impossible_setting_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize("tune", adapters.TUNES)
def test_a_fresh_adapter_changes_nothing_and_all_forms_of_a_trained_one_agree(tune):
  model, base = scene.tiny_model(FRAMES)
  config = AdapterConfig(tune=tune, rank=2, scale=0.5)
  fresh = adapters.init(jax.random.key(0), base, config)
  trained = jax.tree.map(lambda leaf: leaf + 0.1, fresh)
  inputs = clips(2)["keypoints"], scene.poses((2, FRAMES)) / 4, jnp.array([3, 999])

  def outputs(adapter):
    forms = ("merged", "layerwise", "factorised")
    return [adapters.make_denoiser(model, base, adapter, config.scale, form)(*inputs) for form in forms]

  bare = adapters.make_denoiser(model, base, None)(*inputs)
  for out in outputs(fresh):
    assert_close(out, bare)
  first, *others = outputs(trained)
  assert np.abs(first - bare).max() > 0.05
  for out in others:
    assert_close(out, first)


def test_lora_adapts_attention_where_there_is_any_and_convolutions_elsewhere():
  assert adapters.default_rule(scene.tiny_model()[1]) == lora.ATTENTION
  assert adapters.default_rule(tiny()[1]) == lora.CONVOLUTIONS
  base = scene.tiny_model()[1]
  adapter = jax.eval_shape(lambda: adapters.init(jax.random.key(0), base, recipes.LARGE))["lora"]
  assert any("mlp" in path for path in adapter) and all(ab["b"].shape[0] == 16 for ab in adapter.values())
