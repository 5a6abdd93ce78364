"""Eight CPU devices, set before JAX starts, and data and a base that all tests share."""

import os
import pathlib
import tempfile

import filelock
import pytest

from tests import LIGHT, ROOT

os.environ["XLA_FLAGS"] = f"{LIGHT} {os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")  # as in the scripts; TF32 would break parity
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# One cache of compiled programs for all processes of this run. pytest-xdist's processes inherit it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="posynda_compiled_")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_addoption(parser):
  parser.addoption("--quarter", type=int, help="Only every fourth file of tests, from this one on (0 to 3).")


def pytest_make_parametrize_id(val, argname):
  """Bytes do not name a test: pytest-xdist's processes collect equal names, and gzip writes the time into its bytes."""
  return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(config, items):
  if (first := config.getoption("--quarter")) is None:
    return
  chosen = sorted({item.path for item in items})[first::4]
  config.hook.pytest_deselected(items=[item for item in items if item.path not in chosen])
  items[:] = [item for item in items if item.path in chosen]


@pytest.fixture(scope="session", autouse=True)
def paths_of_scripts(tmp_path_factory):
  """Scripts find this checkout, but not PyTorch, because tensorboardX would spend seconds on importing it."""
  folder = tmp_path_factory.mktemp("no_torch")
  (folder / "torch.py").write_text("raise ImportError('scripts under test run without PyTorch')\n")
  os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> pathlib.Path:
  """A folder of all processes of this test session."""
  root = tmp_path_factory.getbasetemp()
  return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def data(shared) -> str:
  """The embedded data as a flag. The first process builds it, and the others wait."""
  from posynda_jax.datasets import load

  with filelock.FileLock(shared / "data.lock"):
    for config in ("source_world", "source_gt", "target_gt"):
      load.load(f"synthetic_motion/{config}", "test", data_dir=shared / "data")
  return f"--data_dir={shared / 'data'}"


@pytest.fixture(scope="session")
def smoke_base(shared, data) -> str:
  """The base of the preset smoke_base as a flag, trained once."""
  from tests.scripts import SMOKE, run_well

  folder = shared / "smoke_base"
  with filelock.FileLock(shared / "base.lock"):
    if not (folder / "metrics.json").exists():
      run_well("pretrain", SMOKE.replace("smoke", "smoke_base"), data, f"--workdir={folder}")
  return f"--base={folder}"
