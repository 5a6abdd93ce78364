"""Laws of the adaptation step: what it moves, what it computes, and how devices share it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from posynda_jax.adaptation import adapters, step, tensors_file
from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.adaptation.lessons.labelled import Purpose, student_purpose
from posynda_jax.adaptation.lessons.novel_views import NovelViews
from posynda_jax.adaptation.lessons.placed import Synthesis
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.lessons.target_labels import TargetLabels
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.diffusion import process
from posynda_jax.geometry import measured, skeleton, virtual_camera
from posynda_jax.peft import counting, deltas, lora
from posynda_jax.runtime import checkpoint, parallel
from tests import scene
from tests.adaptation.batches import BODY, FRAMES, TRACES, batch, clips, gradients, run_steps
from tests.diffusion.test_videopose import tiny
from tests.geometry.test_virtual_camera import VIEW
from tests.tolerance import assert_close

SMALL = AdapterConfig(rank=2)
POSYNDA = Recipe((Synthesis(), PseudoLabels()), rate=1e-2, adapter=SMALL)
CEILING = Recipe((TargetLabels(),), rate=2e-2, adapter=SMALL)
FREE = Recipe((NovelViews(),), num_hypotheses=1, rate=2e-2, adapter=SMALL)
LABELLED = {"target": clips(8, 4, labelled=True)}


def test_no_leaf_of_the_state_belongs_to_the_base():
  _, base = scene.tiny_model(FRAMES)
  state = step.init_state(jax.random.key(0), base, POSYNDA, FRAMES)
  num_adapter = adapters.num_trainable(base, POSYNDA.adapter)
  assert counting.count(state.adapter) == num_adapter == counting.count(state.adapter["lora"]) + 51
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert counting.count(moments) == 2 * num_adapter  # Adam's two moments, of the adapter alone
  of_base, of_adapter = ({leaf.shape for leaf in jax.tree.leaves(tree)} for tree in (base, state.adapter["lora"]))
  assert not of_base & of_adapter
  assert state.memory == ((), ())


def test_a_step_moves_the_adapter_from_the_base_and_is_a_pure_function_of_seed_and_step():
  (first, metrics), (twice, _), (again, _), (other, _) = (
      run_steps(POSYNDA, num, seed=seed) for num, seed in ((1, 7), (2, 7), (2, 7), (2, 8)))
  assert first.step == 1 and np.abs(first.adapter["bias"]).max() > 0
  assert all(np.abs(factors["b"]).max() > 0 for factors in first.adapter["lora"].values())
  assert metrics["loss"] > 0 and metrics["teacher_spread_mm"] > 0 and metrics["grad_norm"] > 0
  resumed, _ = run_steps(POSYNDA, state=first)
  for same in (again, resumed):
    jax.tree.map(np.testing.assert_array_equal, same, twice)
  assert not np.array_equal(twice.adapter["bias"], other.adapter["bias"])
  assert set(TRACES.values()) == {1}


def test_the_first_loss_is_eq_9_of_the_bare_base_on_pure_noise_at_the_last_step():
  (model, base), target = scene.tiny_model(FRAMES), clips(8, 4, labelled=True)
  target["valid"][3, 1:] = 0
  _, metrics = run_steps(CEILING, data={"target": target})
  ask = jax.vmap(lambda key: parallel.clip_keys(key, 8), in_axes=None, axis_name=parallel.AXIS, axis_size=1)
  keys = ask(parallel.purpose_key(jax.random.key(7), jnp.zeros((), jnp.int32), Purpose.STUDENT))[0]
  noise = jax.vmap(lambda key: jax.random.normal(key, (FRAMES, 17, 3)))(keys)
  out = model.apply(base, target["keypoints"], process.clamp(noise), jnp.full(8, 999))
  error = ((out - skeleton.root_centre(target["poses"])) ** 2).mean((-2, -1))
  np.testing.assert_allclose(metrics["loss"], np.average(error, weights=target["valid"]), rtol=1e-4)
  assert set(metrics) == {"loss", "grad_norm", "adapter_norm"}  # no teacher was asked


def test_devices_that_share_a_batch_make_the_update_of_one():
  data = batch()
  data["source"]["valid"][1, :2] = data["target"]["valid"][5, 1:] = 0  # devices hold unequal weights
  (alone, metrics), (shared, shared_metrics) = (run_steps(POSYNDA, 1, data, num) for num in (1, 8))
  assert_close(gradients(shared), gradients(alone), updates=1)
  assert_close(shared.adapter, alone.adapter, updates=1)
  np.testing.assert_allclose(shared_metrics["loss"], metrics["loss"], rtol=1e-4)


def test_a_gradient_that_is_added_up_from_parts_is_that_of_all_clips():
  whole, parts = (run_steps(CEILING, data=LABELLED, at_once=at_once) for at_once in (0, 3))
  assert_close((parts[0].adapter, parts[1]), (whole[0].adapter, whole[1]), updates=1)


@pytest.mark.parametrize("at_once, parts", [(0, 0), (2, 3), (4, 2), (5, 0), (9, 0)])
def test_parts_are_as_large_as_asked_and_what_fills_the_last_one_adds_nothing(at_once, parts):
  x = np.arange(10, dtype=np.float32).reshape(5, 2)

  def loss(w, x):
    return (w * x**2).sum()

  made = jax.make_jaxpr(functools.partial(step.summed_gradient, loss, at_once=at_once))(jnp.float32(3), (x,))
  lengths = [equation.params["length"] for equation in made.eqns if equation.primitive.name == "scan"]
  assert lengths == [parts] * bool(parts)
  value, gradient = step.summed_gradient(loss, jnp.float32(3), (x,), at_once)
  assert (value, gradient) == (3 * (x**2).sum(), (x**2).sum())


def test_clips_without_a_valid_frame_do_not_count():
  data = {"target": clips(8, 4)}
  data["target"]["valid"][2] = 0
  spoiled, other = jax.tree.map(np.copy, data), jax.tree.map(np.copy, data)
  spoiled["target"]["keypoints"][2] += 0.3
  other["target"]["keypoints"][3] += 0.3
  (ours, _), (theirs, _), (different, _) = (run_steps(FREE, 1, it) for it in (data, spoiled, other))
  assert_close(gradients(theirs), gradients(ours), updates=1)
  assert np.abs(gradients(different)["bias"] - gradients(ours)["bias"]).max() > 1e-3


def test_every_lesson_of_a_recipe_gives_the_student_noise_of_its_own():
  purposes = [student_purpose(number) for number in range(6)]
  assert len(set(purposes)) == 6 and Purpose.TEACHER not in purposes and Purpose.GENERATOR not in purposes


def test_a_view_renders_the_target_clips_of_every_update():
  target = LABELLED["target"]
  rendered = jax.tree.map(np.asarray, virtual_camera.render_clip(target, VIEW)[0])
  with_view, by_hand, without = (
      gradients(run_steps(CEILING, 1, {"target": data}, measured=measured.make(BODY, view))[0])
      for data, view in ((target, VIEW), (rendered, ()), (target, ()))
  )
  assert_close(with_view, by_hand, updates=1)
  assert np.abs(without["bias"] - by_hand["bias"]).max() > 0.01


@pytest.mark.parametrize("recipe", [CEILING, FREE], ids=["ceiling", "free"])
def test_learning_lowers_the_loss(recipe):
  """The gradients of the whole chain reach the adapter; the recipe free gets no source."""
  data = LABELLED if recipe.is_ceiling else {"target": clips(8, 4)}
  (_, first), (_, last) = (run_steps(recipe, num_steps, data) for num_steps in (1, 60))
  assert last["loss"] < 0.4 * first["loss"]


def test_adaptation_by_deltas_moves_the_leaves_of_the_rule_alone_and_a_file_holds_them(tmp_path):
  _, base = scene.tiny_model(FRAMES)
  recipe = dataclasses.replace(CEILING, adapter=AdapterConfig(tune="biases", bias=False))
  state, _ = run_steps(recipe, 2, LABELLED)
  assert set(state.adapter) == {"delta", "bias"} and not state.adapter["bias"].any()
  tuned = flatten_dict(adapters.merge(base, state.adapter, 1.0)["params"], sep="/")
  moved = {path for path, leaf in flatten_dict(base["params"], sep="/").items() if (leaf != tuned[path]).any()}
  assert moved == set(state.adapter["delta"]) == set(deltas.init(base, "biases"))
  tensors_file.save_adapter(tmp_path / "a.safetensors", state.adapter, "b" * 16, {"tune": "biases"})
  found, settings = tensors_file.load_adapter(tmp_path / "a.safetensors", "b" * 16)
  jax.tree.map(np.testing.assert_array_equal, found, state.adapter)
  assert settings == {"tune": "biases"}


def test_adapting_videopose_moves_neither_base_nor_statistics_and_its_state_holds_neither():
  network = model, base = tiny(num_frames=FRAMES, filter_widths=(3, 1))
  before = checkpoint.digest(base)
  state, _ = run_steps(CEILING, 2, LABELLED, network=network)
  assert checkpoint.digest(base) == before
  assert set(state.adapter["lora"]) == set(lora.targets(base, lora.CONVOLUTIONS))
  assert all(np.abs(entry["b"]).max() > 0 for entry in state.adapter["lora"].values())
  moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
  assert counting.count(moments) == 2 * counting.count(state.adapter)
