"""Eight CPU devices for the multi-device laws, set before JAX starts; scripts under test start their own processes."""

import fcntl
import os
import tempfile

import pytest

from tests import LIGHT

os.environ["XLA_FLAGS"] = f"{LIGHT} {os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")  # as the scripts ask for: parity does not hold in a GPU's TF32
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# One cache of compiled programs for all processes of this run: the tests' own and those of the scripts under test.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="posynda_compiled_")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _shared(tmp_path_factory):
  """A folder of this test session; with pytest-xdist every process has its own below it."""
  root = tmp_path_factory.getbasetemp()
  return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session", autouse=True)
def what_scripts_see(tmp_path_factory):
  """Compiled programs are kept for all scripts of this session. They see no torch: tensorboardX would import it, seconds of every start."""
  folder = tmp_path_factory.mktemp("no_torch")
  (folder / "torch.py").write_text("raise ImportError('scripts under test see no torch')\n")
  os.environ["PYTHONPATH"] = str(folder)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> str:
  """The embedded data as a flag, built once by whichever process is first; the others wait."""
  from posynda_jax.datasets import load

  folder = _shared(tmp_path_factory) / "data"
  with open(f"{folder}.lock", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    for config in ("source_world", "source_gt", "target_gt"):
      load.load(f"synthetic_motion/{config}", "test", data_dir=folder)
  return f"--data_dir={folder}"


@pytest.fixture(scope="session")
def smoke_base(tmp_path_factory, data) -> str:
  """The base of the smoke preset as a flag, trained once."""
  from tests.experiments.test_experiments import SMOKE, run_well

  folder = _shared(tmp_path_factory) / "smoke_base"
  with open(f"{folder}.lock", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    if not (folder / "metrics.json").exists():
      run_well("pretrain", SMOKE.replace("smoke", "smoke_base"), data, f"--workdir={folder}")
  return f"--base={folder}"
