"""Batches and random keys on devices: shares, transfer before use, keys by clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.runtime import parallel
from tests.runtime.toy import Feed


def test_batches_wait_on_the_devices_and_the_state_counts_those_returned():
  ahead, plain = parallel.DeviceFeed(Feed(), 2), Feed()
  assert ahead.get_state() == {"next": 0}
  for number in range(1, 4):
    batch = next(ahead)["x"]
    assert ahead.get_state() == {"next": number} and batch.sharding.device_set == set(jax.local_devices()[:2])
    np.testing.assert_array_equal(batch, parallel.shard(next(plain), 2)["x"].astype(batch.dtype))


def test_a_batch_that_the_devices_cannot_share_is_refused():
  with pytest.raises(ValueError, match="batch size 4 is not divisible by 3 devices"):
    parallel.shard(next(Feed()), 3)


def test_keys_of_clips_do_not_depend_on_the_number_of_devices():
  def gather(state, frozen, batch, key):
    return jax.lax.all_gather(jax.random.key_data(parallel.clip_keys(key, len(batch))), parallel.AXIS, tiled=True)

  keys = {}
  for count in (1, 2, 4):
    step = parallel.make_parallel_step(gather, jax.local_devices()[:count])
    keys[count] = step(jnp.zeros(()), (), np.zeros((count, 8 // count)), jax.random.key(0))
  assert len(np.unique(keys[1], axis=0)) == 8
  np.testing.assert_array_equal(keys[2], keys[1])
  np.testing.assert_array_equal(keys[4], keys[1])
