"""MPI-INF-3DHP as a TFDS dataset."""
