"""3D Poses in the Wild as a TFDS dataset."""
