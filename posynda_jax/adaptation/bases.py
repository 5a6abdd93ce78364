"""Frozen bases by name: a pretraining run's folder, a `.safetensors` file, or the weights that ship with the package."""

import dataclasses
import pathlib
from typing import Any

import flax.linen as nn
import jax

from posynda_jax.adaptation import pretrain, tensors_file
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.runtime import checkpoint, runs

_FOLDER = pathlib.Path(__file__).parent / "weights"
SHIPPED = {path.stem: path for path in sorted(_FOLDER.glob("*.safetensors"))}
DEFAULT = "cmu_any"  # its model card: weights/cmu_any.md


@dataclasses.dataclass(frozen=True)
class Base:
  """A frozen base: its denoiser, variables, digest, and the config it was made with."""

  model: nn.Module
  params: dict
  digest: str
  config: dict[str, Any]

  @property
  def body(self) -> tuple[float, ...]:
    """Mean bone lengths [16] (m) of the people it was trained on; empty where nobody wrote them down."""
    return tuple(self.config.get("body", ()))

  @property
  def view(self) -> tuple[float, ...]:
    """Of the virtual camera that its adapter was trained with; empty where clips are seen by their own cameras."""
    return tuple(self.config.get("view", ()))

  @property
  def clip_fps(self) -> float:
    """Frame rate that its clips have."""
    return self.config["clip_fps"]

  @property
  def diffusion_steps(self) -> int:
    """T of its schedule."""
    return self.config["pretrain"]["diffusion_steps"]


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
        f"{where} is no base: give the folder of a pretraining run, a .safetensors file, or one that ships ({', '.join(SHIPPED)})"
    )
  config = runs.read_config(path)
  if "model" not in config:
    raise ValueError(f"{where} is a run of another kind: a base is the folder of a pretraining run")
  model = make_model(config["model"])
  like = jax.eval_shape(lambda: pretrain.init_state(jax.random.key(0), model, pretrain.PretrainConfig()).params)
  params = checkpoint.load_tree(path / "base", like)
  found = {name: value for name, value in runs.read_metrics(path).items() if name == "body"}
  return Base(model, params, checkpoint.digest(params), config | found)
