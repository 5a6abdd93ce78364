"""Low-rank adaptation (Eq. 10) as functions on two trees: the frozen base and a small adapter that mirrors its paths.

    base    = {"params": {"spatial_0": {"attention": {"qkv": {"kernel": W, "bias": b}}}}}
    adapter = {"spatial_0/attention/qkv": {"a": A [in r], "b": B [r out]}}            # B starts at zero

The model does not know adapters exist: `bind` intercepts the call of every linen Dense and Conv whose module path has an
entry and adds `s (x a) b` to its output, so there is no gradient, optimizer state or checkpoint for the base. `jax.grad`
with respect to the adapter is all the freezing there is. `merge` folds the same product into the kernels for serving.
Nothing here is about poses: it works on any linen module with Dense or Conv layers. For Conv, `a` [window... in r] is a
convolution with the layer's own strides, padding and dilation, and `b` [r out] is pointwise.

With DoRA (Liu et al., 2024, arXiv 2402.09353) an entry also has `m` [out]: `W + s a b` gives a kernel's columns their directions, and
their norms are those of W plus m, zero at first.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PyTree

Adapter = Mapping[str, Mapping[str, Array]]  # module path -> {"a", "b"}, with DoRA also "m"

ATTENTION = r".*/attention/(qkv|proj)"  # the paper's rule on MixSTE: fused qkv and output projection of every block
CONVOLUTIONS = r"(expand_conv|conv_\d+)"  # VideoPose: all its convolutions but the output layer
EVERYWHERE = r".*"


def targets(base: PyTree, rule: str = ATTENTION) -> dict[str, tuple[int, ...]]:
  """Paths of the modules whose kernel is adapted, with the kernel's shape.

  `rule` is a regular expression that must match the whole module path. Raises ValueError where nothing matches.
  """
  kernels = {path[:-1]: leaf for path, leaf in flatten_dict(base["params"]).items() if path[-1] == "kernel"}
  shapes = {"/".join(path): jnp.shape(leaf) for path, leaf in kernels.items()}
  chosen = {path: shape for path, shape in shapes.items() if re.fullmatch(rule, path)}
  if not chosen:
    raise ValueError(f"target rule {rule!r} matches no module; the base has kernels at {', '.join(sorted(shapes))}")
  return chosen


def init(key: Array, base: PyTree, rank: int, rule: str = ATTENTION, magnitudes: bool = False) -> Adapter:
  """A fresh adapter: a ~ N(0, 1/r) in standard deviation, b = 0, and with `magnitudes` (DoRA) m = 0: the adapted model equals the base.

  Raises ValueError for a rank below 1 or above what a target layer can hold.
  """
  adapter = {}
  for path, shape in sorted(targets(base, rule).items()):
    limit = min(shape[-2], shape[-1])
    if not 1 <= rank <= limit:
      raise ValueError(f"rank {rank} does not fit {path} with kernel {shape}: choose 1 to {limit}")
    key, a_key = jax.random.split(key)
    a = jax.random.normal(a_key, shape[:-1] + (rank,)) / rank
    adapter[path] = {"a": a, "b": jnp.zeros((rank, shape[-1])), **({"m": jnp.zeros(shape[-1])} if magnitudes else {})}
  return adapter


def bind(model: nn.Module, base: PyTree, adapter: Adapter | None, scale: float = 1.0, *, frozen: bool = False) -> Callable:
  """`model.apply` with the base and, factorised, the adapter: a function of the model's own arguments.

  `frozen` is for training the adapter alone: a Dense layer is then one product with `kernel + scale a b`, and its gradient the
  factorised one, with less memory and fewer passes. Such a layer's kernel has no gradient: it is taken for zero.

  Raises ValueError (while tracing) for an adapter entry that no Dense or Conv of the model answers to.
  """
  if not adapter:
    return lambda *args, **kwargs: model.apply(base, *args, **kwargs)

  def apply(*args, **kwargs):
    seen = set()

    def interceptor(next_fun, args, kwargs, context):
      path = "/".join(context.module.path)
      if context.method_name != "__call__" or path not in adapter:
        return next_fun(*args, **kwargs)
      seen.add(path)
      if frozen and isinstance(context.module, nn.Dense):
        return _frozen_dense(context.module, adapter[path], args[0], scale)
      y = next_fun(*args, **kwargs) + scale * _low_rank(context.module, adapter[path], args[0])
      return _with_magnitudes(context.module, adapter[path], y, scale)

    with nn.intercept_methods(interceptor):
      out = model.apply(base, *args, **kwargs)
    if missing := set(adapter) - seen:
      raise ValueError(f"the model never calls {', '.join(sorted(missing))}: this adapter belongs to another model")
    return out

  return apply


def _low_rank(module: nn.Module, factors: Mapping[str, Array], x: Array) -> Array:
  """(x a) b in the layer's own computation dtype."""
  dtype = getattr(module, "dtype", None) or x.dtype
  a, b = factors["a"].astype(dtype), factors["b"].astype(dtype)
  if isinstance(module, nn.Dense):
    return (x.astype(dtype) @ a) @ b
  if isinstance(module, nn.Conv) and module.feature_group_count == 1:
    rank = a.shape[-1]
    narrow = nn.Conv(
        rank, module.kernel_size, module.strides, module.padding, module.input_dilation, module.kernel_dilation,
        use_bias=False, dtype=dtype, parent=None,
    )
    return narrow.apply({"params": {"kernel": a}}, x.astype(dtype)) @ b
  raise ValueError(f"{'/'.join(module.path)} is a {type(module).__name__}: adapters fit Dense and ungrouped Conv layers")


def _frozen_dense(module: nn.Dense, factors: Mapping[str, Array], x: Array, scale: float) -> Array:
  """The adapted layer as one product, in the layer's own computation dtype."""
  x = x.astype(module.dtype or x.dtype)
  y = _adapted_product(x, module.get_variable("params", "kernel"), factors["a"], scale * factors["b"])
  y = y + module.get_variable("params", "bias").astype(y.dtype) if module.use_bias else y
  return _with_magnitudes(module, factors, y, scale)


def _with_magnitudes(module: nn.Module, factors: Mapping[str, Array], y: Array, scale: float) -> Array:
  """DoRA's magnitudes on the output y of an adapted layer, but for its bias; y itself without any."""
  if "m" not in factors:
    return y
  bias = module.get_variable("params", "bias").astype(y.dtype) if module.use_bias else 0
  kernel = module.get_variable("params", "kernel")
  return (y - bias) * magnitude(kernel, _sum(kernel, factors, scale), factors["m"]).astype(y.dtype) + bias


def magnitude(kernel: Array, adapted: Array, m: Array) -> Array:
  """What the columns of `adapted`, a kernel's `kernel + scale a b`, are multiplied by [out] to have the norms of the kernel's plus m.

  The norm that it divides by has no gradient, as DoRA's authors found it is not missed (section 4.3)."""
  norms = lambda kernel: jnp.sqrt((kernel.astype(jnp.float32) ** 2).sum(tuple(range(kernel.ndim - 1))))
  return (norms(kernel) + m) / jnp.maximum(norms(jax.lax.stop_gradient(adapted)), 1e-12)


def adapted_kernel(kernel: Array, factors: Mapping[str, Array], scale: float) -> Array:
  """`kernel + scale a b`, and with DoRA's m its columns as long as m says, in the kernel's type."""
  new = _sum(kernel, factors, scale)
  return new * magnitude(kernel, new, factors["m"]).astype(kernel.dtype) if "m" in factors else new


def _sum(kernel: Array, factors: Mapping[str, Array], scale: float) -> Array:
  return kernel + (scale * (factors["a"] @ factors["b"])).astype(kernel.dtype)


@jax.custom_vjp
def _adapted_product(x: Array, kernel: Array, a: Array, b: Array) -> Array:
  """x (kernel + a b) for x [... in]; differentiable in x, a and b, by products of rank r but for x."""
  return x @ (kernel + a @ b).astype(x.dtype)


def _adapted_product_forward(x, kernel, a, b):
  return _adapted_product(x, kernel, a, b), (x, kernel, a, b)


def _adapted_product_backward(kept, dy):
  x, kernel, a, b = kept
  flat, narrow = lambda y: y.reshape(-1, y.shape[-1]), lambda y: y.astype(x.dtype)
  da = flat(x).T @ flat(dy @ narrow(b).T)
  db = flat(x @ narrow(a)).T @ flat(dy)
  return dy @ narrow(kernel + a @ b).T, None, da.astype(a.dtype), db.astype(b.dtype)


_adapted_product.defvjp(_adapted_product_forward, _adapted_product_backward)


def merge(base: PyTree, adapter: Adapter, scale: float = 1.0) -> PyTree:
  """The base with `adapted_kernel` at every adapted path. Raises ValueError for a path or shape that does not fit."""
  params = flatten_dict(base["params"])
  for path, factors in adapter.items():
    address = tuple(path.split("/")) + ("kernel",)
    shape = factors["a"].shape[:-1] + factors["b"].shape[-1:]
    if address not in params or jnp.shape(params[address]) != shape:
      found = jnp.shape(params[address]) if address in params else "nothing"
      raise ValueError(f"adapter entry {path} has shape {shape}, the base has {found} there: they do not belong together")
    params[address] = adapted_kernel(params[address], factors, scale)
  return {**base, "params": unflatten_dict(params)}


def unmerge(merged: PyTree, adapter: Adapter, scale: float = 1.0) -> PyTree:
  """Inverse of `merge`, to float rounding. Raises ValueError for DoRA, whose norms have replaced the base's."""
  _check_additive(adapter, "taken out of a merged base")
  return merge(merged, adapter, -scale)


def _check_additive(adapter: Adapter, what: str) -> None:
  if any("m" in factors for factors in adapter.values()):
    raise ValueError(f"an adapter with magnitudes (DoRA) is no sum and cannot be {what}: keep the base, and merge anew")


def combine(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
  """The weighted sum of the adapters' updates, exactly, as one adapter of their ranks' sum: average, interpolate, negate, add.

  Averaging `a` and `b` themselves would not do: the product of means is not the mean of products. Raises ValueError where the
  adapters are not of the same paths, and for DoRA.
  """
  for adapter in adapters:
    _check_additive(adapter, "added to others")
  paths = set(adapters[0])
  if len(adapters) != len(weights) or any(set(adapter) != paths for adapter in adapters):
    raise ValueError(f"{len(adapters)} adapters of {len(weights)} weights must adapt the same paths: they belong to other rules")
  return {
      path: {
          "a": jnp.concatenate([adapter[path]["a"] for adapter in adapters], -1),
          "b": jnp.concatenate([weight * adapter[path]["b"] for adapter, weight in zip(adapters, weights, strict=True)]),
      }
      for path in adapters[0]
  }


def relative_norms(base: PyTree, adapter: Adapter, scale: float = 1.0) -> dict[str, float]:
  """Frobenius norm of what changes in a kernel (`scale a b`, or DoRA's change) over the kernel's, by module path: where it happened."""
  params = flatten_dict(base["params"], sep="/")
  size = lambda x: float(jnp.sqrt((x**2).sum()))
  changes = {path: (params[f"{path}/kernel"], factors) for path, factors in adapter.items()}
  return {path: size(adapted_kernel(kernel, factors, scale) - kernel) / size(kernel) for path, (kernel, factors) in changes.items()}


def count(tree: PyTree) -> int:
  """Number of parameters in a tree (an adapter, a base, an optimizer's moments)."""
  return sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(tree))
