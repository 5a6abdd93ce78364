"""Eight CPU devices for the multi-device laws, set before JAX starts; scripts under test start their own processes."""

import os

from tests import LIGHT

os.environ["XLA_FLAGS"] = f"{LIGHT} {os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
