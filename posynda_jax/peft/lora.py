"""Low-rank adaptation (Eq. 10) as functions on two trees: the frozen base and a small adapter that mirrors its paths.

    base    = {"params": {"spatial_0": {"attention": {"qkv": {"kernel": W, "bias": b}}}}}
    adapter = {"spatial_0/attention/qkv": {"a": A [in r], "b": B [r out]}}            # B starts at zero

The model has no adapter parameters. `bind` intercepts each call of a linen Dense or Conv whose module path has an entry
and adds `s (x a) b` to its output. Only the adapter is differentiated, so the base has no gradient, optimizer state or
checkpoint. `merge` adds the same product to the kernels for serving.

The functions work on any linen module with Dense or Conv layers. For Conv, `a` [window... in r] is a convolution with
the layer's own strides, padding and dilation, and `b` [r out] is pointwise.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PyTree

Adapter = Mapping[str, Mapping[str, Array]]  # module path -> {"a", "b"}

ATTENTION = r".*/attention/(qkv|proj)"  # the paper's rule on MixSTE: fused qkv and output projection of every block
CONVOLUTIONS = r"(expand_conv|conv_\d+)"  # VideoPose: all convolutions but the output layer
EVERYWHERE = r".*"


def targets(base: PyTree, rule: str = ATTENTION) -> dict[str, tuple[int, ...]]:
  """Kernel shapes of the modules to adapt, by module path.

  `rule` is a regular expression that must match the whole path. Raises ValueError if it matches no module.
  """
  leaves = flatten_dict(base["params"], sep="/")
  shapes = {path.removesuffix("/kernel"): jnp.shape(leaf) for path, leaf in leaves.items() if path.endswith("/kernel")}
  chosen = {path: shape for path, shape in shapes.items() if re.fullmatch(rule, path)}
  if not chosen:
    raise ValueError(f"target rule {rule!r} matches no module; the base has kernels at {', '.join(sorted(shapes))}")
  return chosen


def init(key: Array, base: PyTree, rank: int, rule: str = ATTENTION) -> Adapter:
  """A new adapter: a ~ N(0, (1/r)^2) and b = 0, so the adapted model equals the base.

  Raises ValueError for a rank below 1 or above the least dimension of a target kernel.
  """
  adapter = {}
  for path, shape in sorted(targets(base, rule).items()):
    limit = min(shape[-2], shape[-1])
    if not 1 <= rank <= limit:
      raise ValueError(f"rank {rank} does not fit {path} with kernel {shape}: choose 1 to {limit}")
    key, a_key = jax.random.split(key)
    a = jax.random.normal(a_key, shape[:-1] + (rank,)) / rank
    adapter[path] = {"a": a, "b": jnp.zeros((rank, shape[-1]))}
  return adapter


def bind(
    model: nn.Module, base: PyTree, adapter: Adapter | None, scale: float = 1.0, *, frozen: bool = False
) -> Callable:
  """`model.apply` with the base and the factorised adapter, as a function of the model's other arguments.

  `frozen` is for training the adapter alone. It computes a Dense layer as one product with `kernel + scale a b` and
  gives it the factorised gradient, in less memory and fewer passes. The gradient of the kernel is then zero.

  Raises ValueError (while tracing) if an adapter entry has no Dense or Conv layer in the model.
  """
  if not adapter:
    return lambda *args, **kwargs: model.apply(base, *args, **kwargs)

  def apply(*args, **kwargs):
    called = set()

    def interceptor(next_fun, args, kwargs, context):
      path = "/".join(context.module.path)
      if context.method_name != "__call__" or path not in adapter:
        return next_fun(*args, **kwargs)
      called.add(path)
      if frozen and isinstance(context.module, nn.Dense):
        return _frozen_dense(context.module, adapter[path], args[0], scale)
      return next_fun(*args, **kwargs) + scale * _low_rank(context.module, adapter[path], args[0])

    with nn.intercept_methods(interceptor):
      out = model.apply(base, *args, **kwargs)
    if missing := set(adapter) - called:
      raise ValueError(f"the model never calls {', '.join(sorted(missing))}: this adapter belongs to another model")
    return out

  return apply


def _low_rank(module: nn.Module, factors: Mapping[str, Array], x: Array) -> Array:
  """(x a) b in the layer's own computation dtype."""
  dtype = getattr(module, "dtype", None) or x.dtype
  a, b, x = factors["a"].astype(dtype), factors["b"].astype(dtype), x.astype(dtype)
  if isinstance(module, nn.Dense):
    return (x @ a) @ b
  if isinstance(module, nn.Conv) and module.feature_group_count == 1:
    narrow = nn.Conv(
        a.shape[-1], module.kernel_size, module.strides, module.padding, module.input_dilation, module.kernel_dilation,
        use_bias=False, dtype=dtype, parent=None,
    )
    return narrow.apply({"params": {"kernel": a}}, x) @ b
  path = "/".join(module.path)
  raise ValueError(f"{path} is a {type(module).__name__}: adapters fit Dense and ungrouped Conv layers")


def _frozen_dense(module: nn.Dense, factors: Mapping[str, Array], x: Array, scale: float) -> Array:
  """The adapted layer as one product, in the layer's own computation dtype."""
  x = x.astype(module.dtype or x.dtype)
  y = _adapted_product(x, module.get_variable("params", "kernel"), factors["a"], scale * factors["b"])
  return y + module.get_variable("params", "bias").astype(y.dtype) if module.use_bias else y


@jax.custom_vjp
def _adapted_product(x: Array, kernel: Array, a: Array, b: Array) -> Array:
  """x (kernel + a b) for x [... in], differentiable in x, a and b. The gradients of a and b are products of rank r."""
  return x @ (kernel + a @ b).astype(x.dtype)


def _adapted_product_forward(x, kernel, a, b):
  return _adapted_product(x, kernel, a, b), (x, kernel, a, b)


def _adapted_product_backward(kept, dy):
  x, kernel, a, b = kept

  def flat(y):
    return y.reshape(-1, y.shape[-1])

  def transposed(factor):
    return factor.astype(x.dtype).T

  da = flat(x).T @ flat(dy @ transposed(b))
  db = flat(x @ a.astype(x.dtype)).T @ flat(dy)
  return dy @ transposed(kernel + a @ b), None, da.astype(a.dtype), db.astype(b.dtype)


_adapted_product.defvjp(_adapted_product_forward, _adapted_product_backward)


def merge(base: PyTree, adapter: Adapter, scale: float = 1.0) -> PyTree:
  """The base with `kernel + scale a b` at all adapted paths. Raises ValueError for what does not fit."""
  params = flatten_dict(base["params"], sep="/")
  for path, factors in adapter.items():
    kernel = params.get(f"{path}/kernel")
    shape = factors["a"].shape[:-1] + factors["b"].shape[-1:]
    if kernel is None or jnp.shape(kernel) != shape:
      found = "nothing" if kernel is None else jnp.shape(kernel)
      raise ValueError(f"adapter entry {path} has shape {shape}, but the base has {found} there")
    params[f"{path}/kernel"] = kernel + (scale * (factors["a"] @ factors["b"])).astype(kernel.dtype)
  return {**base, "params": unflatten_dict(params, sep="/")}


def unmerge(merged: PyTree, adapter: Adapter, scale: float = 1.0) -> PyTree:
  """Inverse of `merge`, up to rounding."""
  return merge(merged, adapter, -scale)


def combine(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
  """One adapter whose update is exactly the weighted sum of the adapters' updates. Its rank is the sum of their ranks.

  Factors are concatenated, because the mean of `a` times the mean of `b` is not the mean of the products `a b`. Raises
  ValueError if the adapters have different paths, or if there is not one weight an adapter.
  """
  paths = set(adapters[0])
  if len(adapters) != len(weights) or any(set(adapter) != paths for adapter in adapters):
    raise ValueError(f"{len(adapters)} adapters with {len(weights)} weights must have the same paths and a weight each")
  return {
      path: {
          "a": jnp.concatenate([adapter[path]["a"] for adapter in adapters], -1),
          "b": jnp.concatenate([weight * adapter[path]["b"] for adapter, weight in zip(adapters, weights)]),
      }
      for path in adapters[0]
  }


def relative_norms(base: PyTree, adapter: Adapter, scale: float = 1.0) -> dict[str, float]:
  """Frobenius norm of each kernel's update `scale a b`, relative to the norm of the kernel, by module path."""
  before, after = (flatten_dict(tree["params"], sep="/") for tree in (base, merge(base, adapter, scale)))
  kernels = {path: (before[f"{path}/kernel"].ravel(), after[f"{path}/kernel"].ravel()) for path in adapter}
  return {path: float(jnp.linalg.norm(new - old) / jnp.linalg.norm(old)) for path, (old, new) in kernels.items()}
