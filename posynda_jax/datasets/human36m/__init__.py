"""Human3.6M as a TFDS dataset."""
