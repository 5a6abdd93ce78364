"""The one door to every dataset: `load("cmu_mocap/h36m_rig_gt", "train", data_dir=...)` gives its records.

The first call builds the dataset from the owner's files in `manual_dir` and keeps it under `data_dir`; later calls read
it back. TFDS writes a build beside its place and renames it when it is whole: one that broke off never counts as done.
"""

import contextlib
import dataclasses
import importlib
import io
import os
import pathlib
import sys
from collections.abc import Sequence

import tensorflow_datasets as tfds

# Name -> module:class. Imported when asked for, so one dataset's needs are not another's.
DATASETS = {
    "cmu_mocap": "posynda_jax.datasets.cmu_mocap.cmu_mocap_dataset_builder:CmuMocap",
    "hdm05_mocap": "posynda_jax.datasets.hdm05_mocap.hdm05_mocap_dataset_builder:Hdm05Mocap",
    "bandai_namco_mocap": "posynda_jax.datasets.bandai_namco_mocap.bandai_namco_mocap_dataset_builder:BandaiNamcoMocap",
    "human36m": "posynda_jax.datasets.human36m.human36m_dataset_builder:Human36m",
    "mpi_inf_3dhp": "posynda_jax.datasets.mpi_inf_3dhp.mpi_inf_3dhp_dataset_builder:MpiInf3dhp",
    "threedpw": "posynda_jax.datasets.threedpw.threedpw_dataset_builder:Threedpw",
    "synthetic_motion": "posynda_jax.datasets.synthetic_motion.synthetic_motion_dataset_builder:SyntheticMotion",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Records(Sequence):
  """Records by index, read from disk when asked for: dicts of numpy arrays and, for labels, str."""

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
  """The builder of the named dataset. Raises ValueError that lists the choices."""
  if dataset not in DATASETS:
    raise ValueError(f"dataset {dataset!r} is unknown; choose one of {', '.join(DATASETS)}")
  module, name = DATASETS[dataset].split(":")
  return getattr(importlib.import_module(module), name)


def load(name: str, split: str, *, data_dir, manual_dir=None) -> Records:
  """The records of `split` (TFDS syntax: "train", "train+test", "test[:20%]") of dataset `name`, built if need be.

  `name` is dataset/config; a config given without its 2D source, "cmu_mocap/h36m_rig", means the exact `gt` one.

  Raises ValueError, listing the choices, for an unknown dataset, config or split, and for damaged files;
  FileNotFoundError where the dataset is not built and its files are not in `manual_dir`.
  """
  dataset, config = _dataset_and_config(name)
  data_dir = pathlib.Path(data_dir).expanduser()
  make = lambda: builder_class(dataset)(config=config, data_dir=data_dir, file_format="array_record")
  builder = make()
  if not _is_built(builder):
    try:
      _build(builder, manual_dir)
    except OSError:  # another process may have finished the same build, and its place is then taken
      builder = make()
      if not _is_built(builder):
        raise
  aliases = getattr(builder, "SPLIT_ALIASES", {})
  expanded = _expand(split, aliases)
  try:
    return Records(builder.as_data_source(split=expanded))
  except (ValueError, KeyError, AssertionError) as error:
    published = "+".join(aliases.values()).split("+")
    missing = [part for part in expanded.split("+") if part in published and part not in builder.info.splits]
    if missing:
      raise ValueError(
          f"split {split!r} of {name} needs {', '.join(missing)}, absent when it was built: complete manual_dir, remove "
          f"{builder.data_dir}, and it is built again"
      ) from error
    choices = ", ".join([*aliases, *builder.info.splits])
    raise ValueError(f"split {split!r} of {name} cannot be read; choose among {choices} and their sums") from error


def _expand(split: str, aliases: dict[str, str]) -> str:
  """`split` with a dataset's shorthands written out: Human3.6M's "train" is "S1+S5+S6+S7+S8"."""
  return "+".join(aliases.get(part.strip(), part) for part in split.split("+"))


def has_world(dataset: str) -> bool:
  """Whether virtual rigs see this dataset's motion afresh; real cameras recorded the others."""
  return any(config.endswith("world") for config in builder_class(dataset).builder_configs)


def world_config(name: str) -> tuple[str, str]:
  """The motion behind `dataset/<rig>` or `synthetic_motion/<domain>`: (its world config, the rig that sees it).

  Raises ValueError for a dataset that was recorded by real cameras and has no world config, and for an unknown view.
  """
  dataset, view = _dataset_and_config(name)
  view = view.removesuffix("_gt")
  configs = builder_class(dataset).builder_configs
  for world in (f"{view}_world", "world"):
    if world in configs:
      return world, configs[f"{view}_gt"].rig
  raise ValueError(f"{dataset} has no world motion to draw fresh views of: give one of its configs in full")


def _dataset_and_config(name: str) -> tuple[str, str]:
  dataset, _, config = name.partition("/")
  choices = list(builder_class(dataset).builder_configs)
  for candidate in (config, f"{config}_gt"):
    if candidate in choices:
      return dataset, candidate
  raise ValueError(
      f"config {config!r} of {dataset} is unknown; choose one of {', '.join(f'{dataset}/{c}' for c in choices)}"
  )


def _is_built(builder) -> bool:
  """Whether the dataset lies in its place. Raises ValueError for a place that holds something else."""
  if not os.path.exists(builder.data_dir):
    return False
  if not builder.is_prepared():
    raise ValueError(f"{builder.data_dir} is not a whole dataset; remove the folder, then it is built again")
  return True


def _build(builder, manual_dir):
  if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    if manual_dir is None or not os.path.isdir(manual_dir) or not os.listdir(manual_dir):
      where = "no manual_dir is given" if manual_dir is None else f"manual_dir {manual_dir} is missing or empty"
      todo = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
      raise FileNotFoundError(f"{builder.info.full_name} is not built in {builder.data_dir} and {where}. {todo}")
  print(f"Building {builder.info.full_name} from {manual_dir}, once.", file=sys.stderr)
  download = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
  with contextlib.redirect_stdout(io.StringIO()):  # of TFDS's messages only its progress bars, on stderr, are kept
    builder.download_and_prepare(download_config=download, file_format="array_record")
