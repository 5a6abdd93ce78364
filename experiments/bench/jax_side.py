"""Our units of work, one a kind of case, through the functions that scripts call: something to run, something to compare."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.bench import cases
from posynda_jax.adaptation import adapt, labels, pretrain
from posynda_jax.data import pipeline
from posynda_jax.diffusion import process, sampler
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import skeleton
from posynda_jax.interop import torch_names, torch_networks
from posynda_jax.peft import lora
from posynda_jax.runtime import parallel

_SEED = 1


def matmul(size: int, dtype) -> Callable[[], None]:
  """A product of two square matrices, as the machine's ceiling."""
  a, b = (jax.random.normal(jax.random.key(i), (size, size), dtype) for i in range(2))
  product = jax.jit(jnp.matmul)
  return lambda: product(a, b).block_until_ready()


def make(case: cases.Case, dtype: str = "float32"):
  """(run, check): one unit of the case, finished when it returns, and `check() -> (given, arrays)`.

  `given` are the random numbers behind the arrays, which the other side is to compute from.
  """
  model, params = make_weights(case, dtype)
  return UNITS[case.kind](case, model, params)


def model_config(case: cases.Case, dtype: str = "float32") -> dict:
  """Fields of the case's network; without stochastic depth, so that both sides can be compared."""
  return {"num_frames": case.frames, "width": case.width, "depth": case.depth, "num_heads": case.heads, "drop_path": 0.0,
          "dtype": dtype}


def make_weights(case: cases.Case, dtype: str = "float32"):
  """(model, variables) with the benchmark's weights, converted from the reference's names one array at a time."""
  config = model_config(case, dtype)
  shapes = torch_networks.state_shapes(config, torch_networks.torch_modules(config), "the benchmark's model")
  flat = {}
  for name, shape in shapes.items():
    tree = torch_names.params_from_torch({name: cases.weight(name, shape)})
    flat |= {path: jnp.array(value) for path, value in flatten_dict(tree).items()}
  return make_model(config), unflatten_dict(flat)


def make_adapter(case: cases.Case) -> dict:
  """The adapter with the benchmark's numbers: neither factor is zero, so that both have a gradient."""
  arrays = {name: cases.weight(name, shape) for name, shape in cases.lora_shapes(case).items()}
  return {"lora": jax.tree.map(jnp.array, torch_names.lora_from_torch(arrays)), "bias": jnp.zeros((cases.JOINTS, 3))}


def _clips(case: cases.Case, seed: int) -> dict:
  return jax.tree.map(jnp.asarray, cases.clips(case.clips, case.frames, seed))


def _key(purpose: int, num_clips: int):
  """A first step's keys of one purpose, as `parallel.clip_keys` makes them on one device."""
  key = parallel.purpose_key(jax.random.key(_SEED), jnp.int32(0), purpose)
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num_clips))


def _init_noise(keys, case: cases.Case, steps: int = 1):
  """What `sampler.propose` draws for these clips: [h b f j 3] and [h k-1 b f j 3]."""
  shape = (case.frames, cases.JOINTS, 3)
  draw = lambda h: jax.vmap(lambda key: sampler.clip_noise(jax.random.fold_in(key, h), shape, steps), out_axes=(0, 1))(keys)
  return jax.vmap(draw)(jnp.arange(case.hypotheses))


def _forward(case, model, params):
  fn = jax.jit(model.apply)
  clip = _clips(case, 0)
  noisy = jnp.asarray(cases.noise((case.clips, case.frames, cases.JOINTS, 3), 1))
  args = (params, clip["keypoints"], noisy, jnp.asarray(cases.times(case.clips)))
  return lambda: fn(*args).block_until_ready(), lambda: ({}, {"pose": fn(*args)})


def _config(case) -> adapt.AdaptConfig:
  return adapt.AdaptConfig(num_hypotheses=case.hypotheses, rank=cases.RANK, learning_rate=cases.LEARNING_RATE)


def _teacher(case, model, params):
  config, target, keys = _config(case), _clips(case, 1), _key(labels.TEACHER, case.clips)
  adapter = make_adapter(case)

  @jax.jit
  def fn(params, adapter, target):
    return labels.pseudo_label(keys, adapt.make_denoiser(model, params, adapter, config.scale), target, config, case.chunk)[0]

  given = lambda: {"teacher": jnp.moveaxis(_init_noise(keys, case)[0], 0, 1)}
  return lambda: fn(params, adapter, target).block_until_ready(), lambda: (given(), {"pose": fn(params, adapter, target)})


def _stepper(step, num_devices: int, state, frozen, batch, seed_key=None):
  """(run, first): one unit more of a training step, and the very first one's (state, scalars)."""
  devices = jax.local_devices()[:num_devices]
  step, batch = parallel.make_parallel_step(step, devices), parallel.shard(batch, num_devices)
  seed_key, frozen = parallel.replicate((jax.random.key(_SEED) if seed_key is None else seed_key, frozen), devices)
  fresh = lambda: parallel.replicate(jax.tree.map(jnp.copy, state), devices)  # a step donates its state
  held = [fresh()]

  def run():
    held[0], scalars = step(held[0], frozen, batch, seed_key)
    jax.block_until_ready((held[0], scalars))

  return run, lambda: step(fresh(), frozen, batch, seed_key)


def _adapt(case, model, params):
  config, adapter = _config(case), make_adapter(case)
  tx = adapt.make_optimizer(config)
  state = adapt.AdaptState(jnp.zeros((), jnp.int32), adapter, jax.tree.map(jnp.copy, adapter), tx.init(adapter))
  step = functools.partial(adapt.adapt_step, model=model.clone(remat=True), config=config, rig=None, tx=tx)
  run, first = _stepper(step, case.devices, state, params, {"source": _clips(case, 0), "target": _clips(case, 1)})

  def check():
    state, scalars = first()
    keys = jnp.concatenate([_key(purpose, case.clips) for purpose in (labels.STUDENT, labels.STUDENT_TARGET)])
    student = jax.vmap(lambda key: jax.random.normal(key, (case.frames, cases.JOINTS, 3)))(keys)
    teacher = jnp.moveaxis(_init_noise(_key(labels.TEACHER, case.clips), case)[0], 0, 1)
    grads = _first_gradient(state.opt_state)
    modules = torch_networks.torch_modules(model_config(case))
    found = {"bias": grads["bias"], **torch_names.lora_to_torch(grads["lora"], modules)}
    return {"teacher": teacher, "student": student}, {"loss": scalars["loss"], **_named(found)}

  return run, check


def _cold_start(case, model, params):
  from experiments import adapt as _  # noqa: F401  all that a run of the script imports

  return _adapt(case, model, params)


def _sweep(case, model, params):
  from posynda_jax.adaptation import sweep

  configs, adapter = [_config(case)] * case.members, make_adapter(case)
  seeds = sweep.stack([jax.random.key(_SEED + i) for i in range(case.members)])
  state = sweep.init_state(list(seeds), params, configs)
  state = state.replace(adapter=sweep.stack([adapter] * case.members), teacher=sweep.stack([adapter] * case.members))
  batch = {"source": _clips(case, 0), "target": _clips(case, 1)}
  batch = jax.tree.map(lambda x: jnp.stack([x] * case.members, 1), batch)
  names = [str(i) for i in range(case.members)]
  step = functools.partial(sweep.sweep_step, model=model.clone(remat=True), config=configs[0], rig=None, names=names)
  run, first = _stepper(step, case.devices, state, (params, sweep.settings(configs)), batch, seeds)
  return run, lambda: ({}, {"loss": first()[1]["0/loss"]})


def _first_gradient(opt_state):
  """The gradient that Adam saw in its first step, from its first moment (0.1 of it)."""
  return jax.tree.map(lambda mu: 10 * mu, optax.tree_utils.tree_get(opt_state, "mu"))


def _named(arrays: dict) -> dict:
  return {f"gradient/{name}": value for name, value in arrays.items()}


def _infer(case, model, params):
  config = evaluate.EvaluateConfig(flip=True, sampling_steps=case.steps)
  key, clip = jax.random.key(_SEED), _clips(case, 1)
  fn = jax.jit(lambda params, clip: evaluate.lift(lora.bind(model, params, None), clip, key, config)[0])

  def check():
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(clip["index"])
    init, step = _init_noise(keys, case, case.steps)
    return {"init": init[0], "step": step[0]}, {"pose": fn(params, clip)}

  return lambda: fn(params, clip).block_until_ready(), check


def _pretrain(case, model, params):
  config = pretrain.PretrainConfig()
  tx = pretrain.make_optimizer(config)
  state = pretrain.PretrainState(
      jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), tx.init({"params": params["params"]})
  )
  step = functools.partial(pretrain.pretrain_step, model=model, config=config, rig=None, tx=tx)
  run, first = _stepper(step, case.devices, state, (), {"source": _clips(case, 0)})

  def check():
    state, scalars = first()
    flipped = jax.vmap(jax.random.bernoulli)(_key(pretrain._FLIP, case.clips))
    t = jax.vmap(lambda key: pretrain._draw_time(key, config))(_key(pretrain._TIME, case.clips))
    shape = (case.frames, cases.JOINTS, 3)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(_key(pretrain._NOISE, case.clips))
    gradient = _torch_gradient(case, _first_gradient(state.opt_state))
    return {"flipped": flipped, "t": t, "noise": noise}, {"loss": scalars["loss"], **gradient}

  return run, check


def _torch_gradient(case, grads) -> dict:
  return _named(torch_names.params_to_torch(grads, torch_networks.torch_modules(model_config(case))))


def _gradient(case, model, params):
  clip, t = _clips(case, 0), jnp.asarray(cases.times(case.clips))
  x_0 = skeleton.root_centre(clip["poses"])
  noise, weight = jnp.asarray(cases.noise(x_0.shape, 1)), clip["valid"] / clip["valid"].sum()

  @jax.jit
  def fn(params, keypoints, x_0, t, noise, weight):
    x_t = process.clamp(process.q_sample(process.cosine_schedule(), x_0, t, noise))
    loss = lambda params: pretrain.pose_loss(model.apply(params, keypoints, x_t, t), x_0, weight, "mpjpe")
    return jax.value_and_grad(loss)(params)

  args = (params, clip["keypoints"], x_0, t, noise, weight)

  def check():
    loss, grads = fn(*args)
    return {}, {"loss": loss, **_torch_gradient(case, grads)}

  return lambda: jax.block_until_ready(fn(*args)), check


def _evaluate(case, model, params):
  config = evaluate.EvaluateConfig(batch_size=case.clips)
  score = evaluate.make_scorer(lambda params: lora.bind(model, params, None), config)
  sequence = cases.clips(1, case.length, 0)
  track = pipeline.Track({name: value[0] for name, value in sequence.items() if name != "index"}, {})
  source = pipeline.ClipSource([track], case.frames)

  def run():
    return evaluate.evaluate(score, params, source, case.clips)

  def check():
    index = jnp.minimum(jnp.arange(-(-len(source) // case.clips) * case.clips), len(source) - 1)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(config.seed), i))(index)
    rows = {name.removesuffix("_mm"): np.float32(value) for name, value in run().items() if name != "frames"}
    return {"noise": _init_noise(keys, case)[0][0]}, rows

  return run, check


UNITS = {
    "forward": _forward, "teacher": _teacher, "adapt": _adapt, "cold_start": _cold_start, "infer": _infer, "pretrain": _pretrain,
    "gradient": _gradient, "evaluate": _evaluate, "sweep": _sweep,
}
