"""Our side: one unit of work for each kind of case, through the functions that the scripts call."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from posynda_jax.adaptation import adapt, labels, pretrain, sweep
from posynda_jax.data import pipeline
from posynda_jax.diffusion import process, sampler
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import skeleton
from posynda_jax.interop import torch_names, torch_networks
from posynda_jax.peft import lora
from posynda_jax.runtime import parallel

from . import cases

_SEED = 1


def start(options) -> dict[str, str]:
  """Versions and device. The process multiplies float32 as PyTorch does and keeps freed memory as the scripts do."""
  from .. import common

  jax.config.update("jax_default_matmul_precision", "highest")
  if options.keep:
    common._keep_memory()
  device = jax.devices()[0]
  return {"jax": jax.__version__, "platform": device.platform, "device_kind": device.device_kind}


def peak_bytes(options) -> int | None:
  """The accelerator's highest allocation, None on a CPU."""
  return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def make_matmul(size: int, options) -> Callable[[], None]:
  """A product of two square matrices, which measures the machine's ceiling."""
  a, b = (jax.random.normal(jax.random.key(i), (size, size), options.dtype) for i in range(2))
  product = jax.jit(jnp.matmul)
  return lambda: product(a, b).block_until_ready()


def make(case: cases.Case, options) -> tuple[Callable, Callable]:
  """(run, check): `run()` does one unit and waits for it; `check()` returns (given, arrays).

  `given` are the random numbers behind `arrays`, from which the peer computes the same.
  """
  model, params = make_weights(case, options.dtype)
  work, check = UNITS[case.kind](case, model, params, jax.tree.map(jnp.asarray, cases.inputs(case)))
  return lambda: jax.block_until_ready(work()), check


def model_config(case: cases.Case, dtype: str = "float32") -> dict:
  """Fields of the case's network, without stochastic depth, so that both sides can be compared."""
  return {"num_frames": case.frames, "width": case.width, "depth": case.depth, "num_heads": case.heads,
          "drop_path": 0.0, "dtype": dtype}


def make_weights(case: cases.Case, dtype: str = "float32"):
  """(model, variables) with the benchmark's weights. One array at a time is converted, which keeps the peak of memory low."""
  config = model_config(case, dtype)
  shapes = torch_networks.state_shapes(config, torch_networks.torch_modules(config), "the benchmark's model")
  flat = {}
  for name, shape in shapes.items():
    tree = torch_names.params_from_torch({name: cases.weight(name, shape)})
    flat |= {path: jnp.array(value) for path, value in flatten_dict(tree).items()}
  return make_model(config), unflatten_dict(flat)


def make_adapter(case: cases.Case) -> dict:
  """The adapter with the benchmark's numbers. Neither factor is zero, so that both have a gradient."""
  arrays = {name: cases.weight(name, shape) for name, shape in cases.lora_shapes(case).items()}
  return {"lora": jax.tree.map(jnp.array, torch_names.lora_from_torch(arrays)), "bias": jnp.zeros((cases.JOINTS, 3))}


def make_adaptation(case: cases.Case, model, params, adapter):
  """(label, step, state, frozen, purposes): everything here that names the adaptation's step.

  `label(params, adapter, target, keys)` is the teacher's pseudo-label, `step` the update of one adapter or of all members
  of a sweep, `purposes` the numbers of the keys of the teacher's noise and of the student's two.
  """
  config = adapt.AdaptConfig(num_hypotheses=case.hypotheses, rank=cases.RANK, learning_rate=cases.LEARNING_RATE)
  remat = model.clone(remat=True)

  def label(params, adapter, target, keys):
    denoise = adapt.make_denoiser(model, params, adapter, config.scale)
    return labels.pseudo_label(keys, denoise, target, config, case.chunk)[0]

  if case.members == 1:
    tx, frozen = adapt.make_optimizer(config), params
    state = adapt.AdaptState(jnp.zeros((), jnp.int32), adapter, adapter, tx.init(adapter))
    step = functools.partial(adapt.adapt_step, model=remat, config=config, rig=None, tx=tx)
  else:
    configs, adapters = [config] * case.members, sweep.stack([adapter] * case.members)
    frozen = (params, sweep.settings(configs))
    state = sweep.init_state(list(_seeds(case)), params, configs).replace(adapter=adapters, teacher=adapters)
    names = [str(i) for i in range(case.members)]
    step = functools.partial(sweep.sweep_step, model=remat, config=config, rig=None, names=names)
  return label, step, state, frozen, (labels.TEACHER, labels.STUDENT, labels.STUDENT_TARGET)


def _seeds(case):
  return jnp.stack([jax.random.key(_SEED + i) for i in range(case.members)])


def _keys(purpose: int, num_clips: int):
  """The first step's keys of one purpose, as `parallel.clip_keys` makes them on one device."""
  key = parallel.purpose_key(jax.random.key(_SEED), jnp.int32(0), purpose)
  return _fold(key, jnp.arange(num_clips))


def _fold(key, index):
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def _normal(keys, case):
  """One clip's standard normal numbers [f j 3] for each key."""
  return jax.vmap(lambda key: jax.random.normal(key, (case.frames, cases.JOINTS, 3)))(keys)


def _init_noise(keys, case):
  """The noise of `sampler.propose` for these clips: [h b f j 3] and [h k-1 b f j 3]."""
  shape = (case.frames, cases.JOINTS, 3)

  def draw(key, h):
    return sampler.clip_noise(jax.random.fold_in(key, h), shape, case.steps)

  return jax.vmap(jax.vmap(draw, (0, None), (0, 1)), (None, 0))(keys, jnp.arange(case.hypotheses))


def _stepper(case, step, state, frozen, batch, seed):
  """(work, first): one more update, and the first update's (state, scalars)."""
  devices = jax.local_devices()[: case.devices]
  step, batch = parallel.make_parallel_step(step, devices), parallel.shard(batch, len(devices))
  seed, frozen = parallel.replicate((seed, frozen), devices)

  def fresh():  # a step donates its state
    return parallel.replicate(jax.tree.map(jnp.copy, state), devices)

  held = fresh()

  def work():
    nonlocal held
    held, scalars = step(held, frozen, batch, seed)
    return held, scalars

  return work, lambda: step(fresh(), frozen, batch, seed)


def _gradients(grads, case) -> dict:
  """Gradients by the reference's names, of the network's variables or of an adapter."""
  modules = torch_networks.torch_modules(model_config(case))
  if "lora" in grads:
    named = {"bias": grads["bias"], **torch_names.lora_to_torch(grads["lora"], modules)}
  else:
    named = torch_names.params_to_torch(grads, modules)
  return {f"gradient/{name}": value for name, value in named.items()}


def _adam_gradient(opt_state):
  """The gradient of Adam's first step, from its first moment, which is 0.1 of it."""
  return jax.tree.map(lambda mu: 10 * mu, optax.tree_utils.tree_get(opt_state, "mu"))


# Each unit is (work, check): `work()` computes, and `check()` returns (random numbers, arrays).


def _forward(case, model, params, data):
  fn = jax.jit(model.apply)
  work = functools.partial(fn, params, data["source"]["keypoints"], data["noise"], data["t"])
  return work, lambda: ({}, {"pose": work()})


def _teacher(case, model, params, data):
  adapter = make_adapter(case)
  label, _, _, _, (purpose, *_) = make_adaptation(case, model, params, adapter)
  keys = _keys(purpose, case.clips)
  work = functools.partial(jax.jit(label), params, adapter, data["target"], keys)
  return work, lambda: ({"teacher": jnp.moveaxis(_init_noise(keys, case)[0], 0, 1)}, {"pose": work()})


def _adapt(case, model, params, data):
  _, step, state, frozen, purposes = make_adaptation(case, model, params, make_adapter(case))
  batch, seeds = {name: data[name] for name in ("source", "target")}, _seeds(case)
  if case.members == 1:
    seeds = seeds[0]
  else:
    batch = jax.tree.map(lambda x: jnp.stack([x] * case.members, 1), batch)
  work, first = _stepper(case, step, state, frozen, batch, seeds)

  def check():
    state, scalars = first()
    if case.members > 1:
      return {}, {"loss": scalars["0/loss"]}
    teacher, *student = (_keys(purpose, case.clips) for purpose in purposes)
    given = {"teacher": jnp.moveaxis(_init_noise(teacher, case)[0], 0, 1), "student": _normal(jnp.concatenate(student), case)}
    return given, {"loss": scalars["loss"], **_gradients(_adam_gradient(state.opt_state), case)}

  return work, check


def _cold_start(case, model, params, data):
  from .. import adapt as _  # noqa: F401  imports what a run of the script imports

  return _adapt(case, model, params, data)


def _infer(case, model, params, data):
  config = evaluate.EvaluateConfig(flip=True, sampling_steps=case.steps)
  key, clip = jax.random.key(_SEED), data["target"]
  fn = jax.jit(lambda params, clip: evaluate.lift(lora.bind(model, params, None), clip, key, config)[0])
  work = functools.partial(fn, params, clip)

  def check():
    init, step = _init_noise(_fold(key, clip["index"]), case)
    return {"init": init[0], "step": step[0]}, {"pose": work()}

  return work, check


def _pretrain(case, model, params, data):
  config = pretrain.PretrainConfig()
  tx = pretrain.make_optimizer(config)
  state = pretrain.PretrainState(jnp.zeros((), jnp.int32), params, params, tx.init({"params": params["params"]}))
  step = functools.partial(pretrain.pretrain_step, model=model, config=config, rig=None, tx=tx)
  work, first = _stepper(case, step, state, (), {"source": data["source"]}, jax.random.key(_SEED))

  def check():
    state, scalars = first()
    flip, time, noise = (_keys(purpose, case.clips) for purpose in (pretrain._FLIP, pretrain._TIME, pretrain._NOISE))
    given = {
        "flipped": jax.vmap(jax.random.bernoulli)(flip), "noise": _normal(noise, case),
        "t": jax.vmap(lambda key: pretrain._draw_time(key, config))(time),
    }
    return given, {"loss": scalars["loss"], **_gradients(_adam_gradient(state.opt_state), case)}

  return work, check


def _gradient(case, model, params, data):
  clip, x_0 = data["source"], skeleton.root_centre(data["source"]["poses"])

  @jax.jit
  def fn(params, keypoints, x_0, t, noise, weight):
    x_t = process.clamp(process.q_sample(process.cosine_schedule(), x_0, t, noise))

    def loss(params):
      return pretrain.pose_loss(model.apply(params, keypoints, x_t, t), x_0, weight, "mpjpe")

    return jax.value_and_grad(loss)(params)

  weight = clip["valid"] / clip["valid"].sum()
  work = functools.partial(fn, params, clip["keypoints"], x_0, data["t"], data["noise"], weight)

  def check():
    loss, grads = work()
    return {}, {"loss": loss, **_gradients(grads, case)}

  return work, check


def _evaluate(case, model, params, data):
  config = evaluate.EvaluateConfig(batch_size=case.clips)
  score = evaluate.make_scorer(lambda params: lora.bind(model, params, None), config)
  arrays = {name: np.asarray(value[0]) for name, value in data["sequence"].items() if name != "index"}
  source = pipeline.ClipSource([pipeline.Track(arrays, {})], case.frames)
  work = functools.partial(evaluate.evaluate, score, params, source, case.clips)

  def check():
    index = jnp.minimum(jnp.arange(-(-len(source) // case.clips) * case.clips), len(source) - 1)
    rows = {name.removesuffix("_mm"): np.float32(value) for name, value in work().items() if name != "frames"}
    return {"noise": _init_noise(_fold(jax.random.key(config.seed), index), case)[0][0]}, rows

  return work, check


UNITS = {
    "forward": _forward, "teacher": _teacher, "adapt": _adapt, "cold_start": _cold_start, "infer": _infer,
    "pretrain": _pretrain, "gradient": _gradient, "evaluate": _evaluate, "sweep": _adapt,
}
