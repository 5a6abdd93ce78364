"""Records of every dataset by name: `load("cmu_mocap/h36m_rig_gt", "train", data_dir=...)`.

The first call builds the dataset from the files in `manual_dir` and stores it under `data_dir`. Later calls read it.
TFDS writes a build to a temporary folder and renames it at the end, so a broken build is never read.
"""

import contextlib
import dataclasses
import functools
import importlib
import io
import os
import pathlib
import sys
from collections.abc import Sequence

import tensorflow_datasets as tfds

# Dataset -> class of its module datasets.<dataset>.<dataset>_dataset_builder, which `builder_class` imports.
DATASETS = {
    "cmu_mocap": "CmuMocap",
    "hdm05_mocap": "Hdm05Mocap",
    "accad_mocap": "AccadMocap",
    "amass_mocap": "AmassMocap",
    "bandai_namco_mocap": "BandaiNamcoMocap",
    "human36m": "Human36m",
    "mpi_inf_3dhp": "MpiInf3dhp",
    "threedpw": "Threedpw",
    "synthetic_motion": "SyntheticMotion",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Records(Sequence):
  """A sequence of records, each read from disk when indexed: dicts of NumPy arrays and, for labels, str."""

  source: Sequence

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[i] for i in range(*index.indices(len(self)))]
    if not -len(self) <= index < len(self):  # Sequence's own iteration ends on this error
      raise IndexError(f"record {index} of {len(self)}")
    record = self.source[index % len(self)]
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in record.items()}


def builder_class(dataset: str) -> type[tfds.core.GeneratorBasedBuilder]:
  """The builder class of the named dataset. Raises ValueError that lists the choices."""
  if dataset not in DATASETS:
    raise ValueError(f"dataset {dataset!r} is unknown; choose one of {', '.join(DATASETS)}")
  module = importlib.import_module(f"posynda_jax.datasets.{dataset}.{dataset}_dataset_builder")
  return getattr(module, DATASETS[dataset])


def load(name: str, split: str, *, data_dir, manual_dir=None) -> Records:
  """The records of a split of a dataset, built first if `data_dir` does not have it.

  `name` is dataset/config. A config without its 2D source, "cmu_mocap/h36m_rig", means its exact `gt` form. `split` has
  TFDS syntax: "train", "train+test", "test[:20%]".

  Raises ValueError that lists the choices for an unknown dataset, config or split; ValueError for damaged files;
  FileNotFoundError if the dataset is not built and its files are not in `manual_dir`.
  """
  dataset, config = _dataset_and_config(name)
  data_dir = pathlib.Path(data_dir).expanduser()
  make = functools.partial(builder_class(dataset), config=config, data_dir=data_dir, file_format="array_record")
  builder = make()
  if not _is_built(builder):
    try:
      _build(builder, manual_dir)
    except OSError:  # the rename fails if another process has finished the same build
      builder = make()
      if not _is_built(builder):
        raise
  aliases = getattr(builder, "SPLIT_ALIASES", {})  # Human3.6M's "train" is "S1+S5+S6+S7+S8"
  expanded = "+".join(aliases.get(part.strip(), part) for part in split.split("+"))
  try:
    return Records(builder.as_data_source(split=expanded))
  except (ValueError, KeyError, AssertionError) as error:
    published = "+".join(aliases.values()).split("+")
    if missing := [part for part in expanded.split("+") if part in published and part not in builder.info.splits]:
      raise ValueError(
          f"split {split!r} of {name} needs {', '.join(missing)}, absent when it was built: complete manual_dir and "
          f"remove {builder.data_dir}, then it is built again"
      ) from error
    choices = ", ".join([*aliases, *builder.info.splits])
    raise ValueError(f"split {split!r} of {name} cannot be read; choose among {choices} and their sums") from error


def has_world(dataset: str) -> bool:
  """Whether the dataset has world motion that virtual rigs render. Real cameras recorded the other datasets."""
  return any(config.endswith("world") for config in builder_class(dataset).builder_configs)


def world_config(name: str) -> tuple[str, str]:
  """(world config, rig) of `dataset/<rig>` or `synthetic_motion/<domain>`: the motion, and the rig that renders it.

  Raises ValueError for a dataset without a world config, because real cameras recorded it, and for an unknown view.
  """
  dataset, view = _dataset_and_config(name)
  configs = builder_class(dataset).builder_configs
  for world in (f"{view.removesuffix('_gt')}_world", "world"):
    if world in configs and (rig := configs[view].rig):
      return world, rig
  raise ValueError(f"{dataset} has no world motion to render: give one of its configs in full")


def _dataset_and_config(name: str) -> tuple[str, str]:
  dataset, _, config = name.partition("/")
  configs = builder_class(dataset).builder_configs
  for candidate in (config, f"{config}_gt"):
    if candidate in configs:
      return dataset, candidate
  choices = ", ".join(f"{dataset}/{choice}" for choice in configs)
  raise ValueError(f"config {config!r} of {dataset} is unknown; choose one of {choices}")


def _is_built(builder) -> bool:
  """Whether the dataset is in its folder. Raises ValueError if the folder holds something else."""
  if not os.path.exists(builder.data_dir):
    return False
  if not builder.is_prepared():
    raise ValueError(f"{builder.data_dir} is not a whole dataset; remove the folder, then it is built again")
  return True


def _build(builder, manual_dir):
  instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
  if instructions and (manual_dir is None or not os.path.isdir(manual_dir) or not os.listdir(manual_dir)):
    where = "no manual_dir is given" if manual_dir is None else f"manual_dir {manual_dir} is missing or empty"
    raise FileNotFoundError(f"{builder.info.full_name} is not built in {builder.data_dir} and {where}. {instructions}")
  print(f"Building {builder.info.full_name} from {manual_dir}, once.", file=sys.stderr)
  download = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
  with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints messages; its progress bars go to stderr
    builder.download_and_prepare(download_config=download, file_format="array_record")
