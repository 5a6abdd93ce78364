"""Frozen bases by name, and adapters as runs and files hold them.

A base is the folder of a pretraining run, a `.safetensors` file, or weights that ship with the package. An adapter is
a run's `NAME/` folder or a `.safetensors` file; it fits one base, checked by digest.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from posynda_jax.adaptation import adapters, tensors_file
from posynda_jax.diffusion import process
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.geometry import measured, virtual_camera
from posynda_jax.runtime import checkpoint, runs

_FOLDER = pathlib.Path(__file__).parent / "weights"
SHIPPED = {path.stem: path for path in sorted(_FOLDER.glob("*.safetensors"))}
DEFAULT = "base"  # its model card: weights/base.md


@dataclasses.dataclass(frozen=True)
class Base:
  """A frozen base: its denoiser, variables, digest, and the config it was made with."""

  model: nn.Module
  params: dict
  digest: str
  config: dict[str, Any]

  @property
  def body(self) -> tuple[float, ...]:
    """Mean bone lengths [16] (m) of the people it was trained on; empty where the config lacks them."""
    return tuple(self.config.get("body", ()))

  @property
  def view(self) -> tuple[float, ...]:
    """View [5] of its canonical camera; empty for a base that takes keypoints as any camera shows them."""
    inputs = self.config.get("model", {}).get("inputs")
    return virtual_camera.CANONICAL if inputs == virtual_camera.CHANNELS else ()

  @property
  def has_doubt(self) -> bool:
    """Whether it states how far off each joint may be."""
    return getattr(self.model, "doubt", False)

  @property
  def clip_fps(self) -> float:
    """Frame rate of its clips."""
    return self.config["clip_fps"]

  @property
  def diffusion(self) -> process.Diffusion:
    """Its process."""
    settings = self.config["pretrain"]
    return process.Diffusion(settings["diffusion_steps"], settings.get("noise_std", 1.0))


@dataclasses.dataclass(frozen=True)
class Weights:
  """A base, an adapter on it or None with its config, and what was measured of its source.

  `body` [16] (m): mean bone lengths of the people it was trained on. `view` [5]: of the virtual camera it was trained
  with; empty without one; a base's canonical camera goes before it. `name`: "base", "adapted", "ceiling",
  "source_only" or "unguarded".
  """

  base: Base
  adapter: PyTree | None = None
  config: adapters.AdapterConfig = adapters.AdapterConfig()
  body: tuple[float, ...] = ()
  view: tuple[float, ...] = ()
  name: str = "base"

  def __post_init__(self):
    object.__setattr__(self, "view", self.base.view or self.view)

  @functools.cached_property
  def params(self) -> tuple[PyTree, Array]:
    """(variables with the adapter merged, bias of Eq. 11): the argument of programs, which then serve every adapter."""
    if self.adapter is None:
      return self.base.params, jnp.zeros((adapters.NUM_JOINTS, 3))
    return adapters.merge(self.base.params, self.adapter, self.config.scale), self.adapter["bias"]

  @property
  def settings(self) -> dict[str, Any]:
    """What a file holds beside an adapter's numbers, as JSON."""
    return {"adapter": dataclasses.asdict(self.config), "body": list(self.body), "view": list(self.view)}

  @property
  def measured(self) -> measured.Measured:
    """Body and view as arrays."""
    return measured.make(self.body, self.view, self.base.model.inputs)

  def make_denoiser(self, params: tuple, with_doubt: bool = False):
    """The denoiser of `params`, for programs that take them as an argument."""
    variables, bias = params
    return adapters.make_denoiser(self.base.model, variables, {"bias": bias}, with_doubt=with_doubt)

  def make_doubting(self, params: tuple):
    """The same with the channels of a base's doubt head, where it has one."""
    return self.make_denoiser(params, self.base.has_doubt)

  def save(self, path) -> None:
    """Writes the adapter as one `.safetensors` file, for `load_weights`."""
    tensors_file.save_adapter(path, self.adapter, self.base.digest, self.settings)


def init_variables(key: Array, model: nn.Module) -> dict[str, Any]:
  """Fresh variables of a denoiser: `params`, and `batch_stats` where it has batch norms."""
  shape = (1, model.num_frames, model.num_joints)
  found = jax.jit(model.init)(key, jnp.zeros(shape + (model.inputs,)), jnp.zeros(shape + (3,)), jnp.zeros(1, jnp.int32))
  return {name: found[name] for name in ("params", "batch_stats") if name in found}


def load(where) -> Base:
  """The base `where`: a name of SHIPPED, a `.safetensors` file, or the folder of a pretraining run.

  Raises FileNotFoundError for what is none of them, ValueError for a file or folder of another kind or a damaged one.
  """
  where = SHIPPED.get(str(where), where)
  path = pathlib.Path(where).expanduser()
  if path.suffix == ".safetensors":
    params, config = tensors_file.load_base(path)
    return Base(make_model(config["model"]), params, checkpoint.digest(params), config)
  if not path.is_dir():
    raise FileNotFoundError(
        f"{where} is no base: give the folder of a pretraining run, a .safetensors file, or a base that ships "
        f"({', '.join(SHIPPED)})"
    )
  config = runs.read_config(path)
  if "adapt" in config:
    raise ValueError(f"{where} was made by an earlier version, whose adapters this one does not read: adapt anew")
  if "model" not in config:
    raise ValueError(f"{where} is a run of another kind: a base is the folder of a pretraining run")
  model = make_model(config["model"])
  params = checkpoint.load_tree(path / "base", jax.eval_shape(lambda: init_variables(jax.random.key(0), model)))
  body = {name: value for name, value in runs.read_metrics(path).items() if name == "body"}
  return Base(model, params, checkpoint.digest(params), config | body)


def load_weights(run, name: str = "adapted", base=DEFAULT) -> Weights:
  """The weights "adapted", "ceiling" or "source_only" of a run folder or adapter file; for run None the bare `base`.

  A `.safetensors` adapter goes on `base`; a run folder knows its base. Raises ValueError where base and adapter do
  not belong together, and for a run without the weights asked for.
  """
  if run is None:
    return _bare(load(base))
  if str(run).endswith(".safetensors"):
    found = base if isinstance(base, Base) else load(base)
    adapter, settings = tensors_file.load_adapter(run, found.digest)
    return _with_settings(found, adapter, settings, "adapted")
  config = runs.read_config(run)
  if "recipe" not in config:
    return _bare(load(run))
  if "base_folder" not in config:
    raise ValueError(f"{run} holds several adapters and does not name their base: give the run of one adaptation")
  found = load(config["base_folder"])
  if found.digest != config["base"]:
    raise ValueError(f"the base in {config['base_folder']} is {found.digest}, this adapter belongs to {config['base']}")
  if name == "source_only":
    return Weights(found, body=tuple(read_settings(run, name)["body"]), name=name)
  return load_adapter(run, name, found)


def _bare(base: Base) -> Weights:
  return Weights(base, body=base.body)


def load_adapter(folder, name: str, base: Base) -> Weights:
  """The adapter `name` of a run folder, checked against the base's shapes."""
  settings = read_settings(folder, name)
  config = adapters.from_settings(settings)
  like = jax.eval_shape(lambda: adapters.init(jax.random.key(0), base.params, config))
  adapter = checkpoint.load_tree(f"{folder}/{name}", like)
  return _with_settings(base, adapter, settings, name)


def _with_settings(base: Base, adapter: PyTree, settings: dict[str, Any], name: str) -> Weights:
  config = adapters.from_settings(settings)
  return Weights(base, adapter, config, tuple(settings["body"]), tuple(settings["view"]), name)


def read_settings(folder, name: str = "adapted") -> dict[str, Any]:
  """What a file holds beside the numbers of a run's adapter: {"adapter": config, "body": [16], "view": [5] or []}."""
  recipe = runs.read_config(folder)["recipe"]
  path = pathlib.Path(folder).expanduser() / "measured.json"
  found = json.loads(path.read_text()) if path.exists() else {}
  if name not in found:
    raise FileNotFoundError(f"{folder} holds no weights {name!r}; it has {', '.join(found) or 'none yet'}")
  return {"adapter": recipe["adapter"], **found[name]}
