"""AMASS motion as a TFDS dataset."""
