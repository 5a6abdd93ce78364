"""Laws of a base's training from another base, and of the views that score it."""

import dataclasses

import pytest

from posynda_jax.adaptation import base_job, bases, sources
from tests.tiny import PLAN
from tests.tolerance import assert_close


def test_training_goes_on_from_another_base_and_adds_a_doubt_head(tiny_base, folders, tmp_path):
  still = dataclasses.replace(
      PLAN.pretrain, num_steps=1, learning_rate=0.0, weight_decay=0.0, ema=0.0, noise_std=1.0, diffusion_steps=1000)
  plan = dataclasses.replace(
      PLAN, start=str(tiny_base), split="train[:5%]", batch=8, eval_split="test[:2%]", pretrain=still,
      model=PLAN.model | {"doubt": True})
  made, start = base_job.train_base(plan, tmp_path / "made", folders), bases.load(tiny_base)
  params = dict(made.params["params"])
  assert params.pop("doubt")["bias"].shape == (2,)
  assert_close(params, start.params["params"], updates=1)
  assert base_job.plan_of(made).start == str(tiny_base)

  with pytest.raises(ValueError, match="give the plan and the flags that this base was made with"):
    base_job.train_base(dataclasses.replace(plan, model=plan.model | {"width": 32}), tmp_path / "wider", folders)


@pytest.mark.parametrize("name, views", [
    ("cmu_mocap/h36m_rig", "cmu_mocap/h36m_rig_gt"), ("cmu_mocap/h36m_rig_gt", "cmu_mocap/h36m_rig_gt"),
    ("cmu_mocap/wild_rig_detected", "cmu_mocap/wild_rig_detected"), ("human36m/gt", "human36m/gt"),
    ("accad_mocap/wild_rig_in_image", "accad_mocap/wild_rig_in_image"),
])
def test_a_source_is_scored_on_its_own_views_or_the_exact_ones_of_its_rig(name, views):
  assert sources.fixed_views(name) == views
