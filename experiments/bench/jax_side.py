"""Our side: one unit of work for each kind of case, through the functions that the scripts call."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from posynda_jax.adaptation import adapters, pretraining, sweep
from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.adaptation.lessons.labelled import Purpose
from posynda_jax.adaptation.lessons.placed import Synthesis
from posynda_jax.adaptation.lessons.pseudo_labels import PseudoLabels
from posynda_jax.adaptation.recipes import Recipe
from posynda_jax.adaptation.step import AdaptState, Setting, adapt_step, make_optimizer
from posynda_jax.adaptation.teacher import Teacher
from posynda_jax.data import clips, tracks
from posynda_jax.diffusion import process, sampler
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.evaluation import scoring
from posynda_jax.geometry import skeleton
from posynda_jax.geometry.measured import Measured
from posynda_jax.interop import torch_names, torch_networks
from posynda_jax.peft import lora
from posynda_jax.runtime import parallel

from . import cases

_SEED = 1


def start(options) -> dict[str, str]:
  """Versions and device. The process then multiplies float32 as PyTorch does and keeps freed memory as scripts do."""
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
  """(run, check): `run()` does one unit and waits for it; `check(_)` returns (its random numbers, the arrays)."""
  model, params = make_weights(case, options.dtype)
  data = jax.tree.map(jnp.asarray, cases.inputs(case))
  work, arrays, given = UNITS[case.kind](case, model, params, data)
  return lambda: jax.block_until_ready(work()), lambda _: jax.tree.map(np.array, (given(), arrays()))


def _config(case: cases.Case, dtype: str = "float32") -> dict:
  """Fields of the case's network, without stochastic depth, so that both sides can be compared."""
  return {"num_frames": case.frames, "width": case.width, "depth": case.depth, "num_heads": case.heads,
          "drop_path": 0.0, "dtype": dtype}


def _modules(case) -> list[str]:
  """The reference's modules of the case's network."""
  return torch_networks.torch_modules(_config(case))


def make_weights(case: cases.Case, dtype: str = "float32"):
  """(model, variables) with the benchmark's weights, converted one array at a time for a low peak of memory."""
  config, flat = _config(case, dtype), {}
  shapes = torch_networks.state_shapes(config, _modules(case), "the benchmark's model")
  for name, shape in shapes.items():
    tree = torch_names.params_from_torch({name: cases.weight(name, shape)})
    flat |= {path: jnp.array(value) for path, value in flatten_dict(tree).items()}
  return make_model(config), unflatten_dict(flat)


def _make_adapter(case: cases.Case, params) -> dict:
  """The paper's adapter with the benchmark's numbers. Neither factor is zero, so that both have a gradient."""
  arrays = torch_names.lora_to_torch(lora.init(jax.random.key(0), params, cases.RANK), _modules(case))
  arrays = {name: cases.weight(name, value.shape) for name, value in arrays.items()}
  return {"lora": jax.tree.map(jnp.array, torch_names.lora_from_torch(arrays)), "bias": jnp.zeros((cases.JOINTS, 3))}


def _fold(key, index):
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def _keys(case, purpose: int):
  """The first step's keys [b] of one purpose, as `parallel.clip_keys` makes them on one device."""
  return _fold(parallel.purpose_key(jax.random.key(_SEED), jnp.int32(0), purpose), jnp.arange(case.clips))


def _normal(case, keys):
  """Standard normal numbers [f j 3] of each key."""
  return jax.vmap(lambda key: jax.random.normal(key, (case.frames, cases.JOINTS, 3)))(keys)


def _proposed(case, keys):
  """The noise of `sampler.propose` for these clips: [h b f j 3] and [h k-1 b f j 3]."""

  steps = process.ddim_steps(process.cosine_schedule(), case.steps)

  def draw(key, h):
    return sampler.clip_noise(jax.random.fold_in(key, h), (case.frames, cases.JOINTS, 3), steps)

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


def _gradients(case, grads) -> dict:
  """Gradients by the reference's names, of the network's variables or of an adapter."""
  if "lora" in grads:
    named = {"bias": grads["bias"], **torch_names.lora_to_torch(grads["lora"], _modules(case))}
  else:
    named = torch_names.params_to_torch(grads, _modules(case))
  return {f"gradient/{name}": value for name, value in named.items()}


def _first_arrays(case, state, scalars) -> dict:
  """Loss and gradient of a first step. Adam's first moment is then 0.1 of the gradient."""
  grads = jax.tree.map(lambda mu: 10 * mu, optax.tree_utils.tree_get(state.opt_state, "mu"))
  return {"loss": scalars["loss"], **_gradients(case, grads)}


# A unit is (work, arrays, given): the timed call, the arrays to compare, and the random numbers behind them.


def _forward(case, model, params, data):
  work = functools.partial(jax.jit(model.apply), params, data["source"]["keypoints"], data["noise"], data["t"])
  return work, lambda: {"pose": work()}, dict


def _teacher(case, model, params, data):
  keys, steps = _keys(case, Purpose.TEACHER), process.ddim_steps(process.cosine_schedule(), 1)

  @jax.jit
  def label(params, adapter, target, keys):
    denoise = adapters.make_denoiser(model, params, adapter)
    target = {**target, "inputs": target["keypoints"]}
    return Teacher(denoise, target, keys, None, steps, case.hypotheses, case.chunk).pose

  work = functools.partial(label, params, _make_adapter(case, params), data["target"], keys)
  return work, lambda: {"pose": work()}, lambda: {"teacher": jnp.moveaxis(_proposed(case, keys)[0], 0, 1)}


def _adapt(case, model, params, data):
  if case.kind == "cold_start":
    from .. import adapt as _  # noqa: F401  imports what a run of the script imports
  recipe = Recipe(
      (Synthesis(), PseudoLabels()), num_hypotheses=case.hypotheses, rate=cases.LEARNING_RATE,
      adapter=AdapterConfig(rank=cases.RANK),
  )
  setting = Setting(model.clone(remat=True), chunk=case.chunk, at_once=case.at_once)
  adapter = _make_adapter(case, params)
  batch = {name: data[name] for name in ("source", "target")}
  if case.kind == "sweep":
    all_recipes, seeds = [recipe] * case.members, [jax.random.key(_SEED + i) for i in range(case.members)]
    state = sweep.init_members(seeds, params, all_recipes, case.frames)
    state = state.replace(adapter=sweep.stack([adapter] * case.members))
    step = functools.partial(sweep.sweep_step, recipe=recipe, setting=setting)
    batch = jax.tree.map(lambda x: jnp.stack([x] * case.members, 1), batch)
    frozen = params, Measured(), sweep.find_numbers(all_recipes)
    work, first = _stepper(case, step, state, frozen, batch, jnp.stack(seeds))
    return work, lambda: {"loss": first()[1]["0/loss"]}, dict
  state = AdaptState(jnp.zeros((), jnp.int32), adapter, make_optimizer(recipe).init(adapter), ((), ()))
  step = functools.partial(adapt_step, recipe=recipe, setting=setting)
  work, first = _stepper(case, step, state, (params, Measured()), batch, jax.random.key(_SEED))

  def given():
    student = jnp.concatenate([_keys(case, purpose) for purpose in (Purpose.STUDENT, Purpose.STUDENT_2)])
    teacher, _ = _proposed(case, _keys(case, Purpose.TEACHER))
    return {"teacher": jnp.moveaxis(teacher, 0, 1), "student": _normal(case, student)}

  return work, lambda: _first_arrays(case, *first()), given


def _infer(case, model, params, data):
  config = scoring.SamplingConfig(flip=True, sampling_steps=case.steps)
  key, clip = jax.random.key(_SEED), data["target"]
  fn = jax.jit(lambda params, clip: scoring.propose(lora.bind(model, params, None), Measured(), clip, key, config)[0])
  work = functools.partial(fn, params, clip)

  def given():
    init, step = _proposed(case, _fold(key, clip["index"]))
    return {"init": init[0], "step": step[0]}

  return work, lambda: {"pose": work()}, given


def _pretrain(case, model, params, data):
  config = pretraining.PretrainConfig()
  tx = pretraining.make_optimizer(config)
  state = pretraining.PretrainState(jnp.zeros((), jnp.int32), params, params, tx.init({"params": params["params"]}))
  step = functools.partial(pretraining.pretrain_step, model=model, config=config, rig=None)
  work, first = _stepper(case, step, state, (), {"source": data["source"]}, jax.random.key(_SEED))

  def given():
    flip, time, noise = (_keys(case, purpose) for purpose in (pretraining._FLIP, pretraining._TIME, pretraining._NOISE))
    t = jax.vmap(lambda key: pretraining._draw_time(key, config))(time)
    return {"flipped": jax.vmap(jax.random.bernoulli)(flip), "t": t, "noise": _normal(case, noise)}

  return work, lambda: _first_arrays(case, *first()), given


def _gradient(case, model, params, data):
  clip = data["source"]

  @jax.jit
  def fn(params, keypoints, x_0, t, noise):
    x_t = process.clamp(process.q_sample(process.cosine_schedule(), x_0, t, noise))
    weight = jnp.full(x_0.shape[:2], 1 / (case.clips * case.frames))
    return jax.value_and_grad(
        lambda params: pretraining.pose_loss(model.apply(params, keypoints, x_t, t), x_0, weight, "mpjpe")
    )(params)

  poses = skeleton.root_centre(clip["poses"])
  work = functools.partial(fn, params, clip["keypoints"], poses, data["t"], data["noise"])

  def arrays():
    loss, grads = work()
    return {"loss": loss, **_gradients(case, grads)}

  return work, arrays, dict


def _evaluate(case, model, params, data):
  config = scoring.SamplingConfig(batch_size=case.clips)
  score = scoring.make_scorer(lambda params: lora.bind(model, params, None), config)
  sequence = {name: np.asarray(value[0]) for name, value in data["sequence"].items() if name != "index"}
  source = clips.ClipSource([tracks.Track(sequence, {})], case.frames)
  work = functools.partial(scoring.evaluate, score, params, Measured(), source, case.clips)

  def given():
    index = jnp.minimum(jnp.arange(-(-len(source) // case.clips) * case.clips), len(source) - 1)
    return {"noise": _proposed(case, _fold(jax.random.key(config.seed), index))[0][0]}

  def arrays():
    return {name.removesuffix("_mm"): np.float32(value) for name, value in work().items() if name != "frames"}

  return work, arrays, given


UNITS = {
    "forward": _forward, "teacher": _teacher, "adapt": _adapt, "cold_start": _adapt, "infer": _infer,
    "pretrain": _pretrain, "gradient": _gradient, "evaluate": _evaluate, "sweep": _adapt,
}
