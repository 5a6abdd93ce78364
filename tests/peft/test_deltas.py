"""Laws of deltas on a frozen base."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from posynda_jax.peft import deltas
from tests import scene
from tests.peft.test_lora import inputs

IS_CHOSEN = {
    "full": lambda path: True, "biases": lambda path: path.endswith("bias"),
    "norms": lambda path: "norm" in path,
}


@pytest.mark.parametrize("rule", deltas.RULES)
def test_zero_deltas_are_the_base_and_a_gradient_step_moves_only_what_the_rule_chooses(rule):
  model, base = scene.tiny_model()
  start = deltas.init(base, rule)
  assert set(start) == set(filter(IS_CHOSEN[rule], flatten_dict(base["params"], sep="/")))
  jax.tree.map(np.testing.assert_array_equal, deltas.add(base, start), base)
  grads = jax.grad(lambda tree: (model.apply(deltas.add(base, tree), *inputs()) ** 2).mean())(start)
  tuned = flatten_dict(deltas.add(base, jax.tree.map(lambda grad: -1e-2 * grad, grads))["params"], sep="/")
  moved = {path for path, leaf in flatten_dict(base["params"], sep="/").items() if (leaf != tuned[path]).any()}
  assert moved <= set(start)
  assert {"full": "embed/kernel", "biases": "head/bias", "norms": "spatial_0/norm1/scale"}[rule] in moved


def test_a_delta_that_does_not_fit_the_base_is_named():
  _, base = scene.tiny_model()
  with pytest.raises(ValueError, match="rule 'nothing' matches no parameter; the base has embed/bias"):
    deltas.init(base, "nothing")
  with pytest.raises(ValueError, match=r"delta head/bias has shape \(4,\), but the base has \(3,\)"):
    deltas.add(base, {"head/bias": jnp.zeros(4)})
  with pytest.raises(ValueError, match=r"delta tail/bias has shape \(4,\), but the base has nothing"):
    deltas.add(base, {"tail/bias": jnp.zeros(4)})
