"""Lifts pixels [n 17 2] to root-relative poses [n 17 3] in metres.

    pip install jax numpy flatbuffers            # or jax[cuda12] or jax[tpu]: the same file runs there
    python model_example.py model.jaxexport pixels.npy 1920x1080 poses.npy

The pixels are in Human3.6M-17 order, at the frame rate in the metadata. If the metadata has a view, add the focal
length in pixels as a last argument.
"""

import json
import sys
import zipfile

import jax.export
import numpy as np

archive = zipfile.ZipFile(sys.argv[1])
about = json.loads(archive.read("metadata.json"))
lift = jax.export.deserialize(bytearray(archive.read("lift.jaxexport"))).call
width, height = map(int, sys.argv[3].split("x"))
keypoints = (2 * np.load(sys.argv[2]) - (width, height)) / width  # x in [-1, 1], y likewise by the width
padded = np.pad(keypoints, ((0, -len(keypoints) % about["num_frames"]), (0, 0), (0, 0)), mode="edge")
clips = padded.reshape(-1, about["num_frames"], *keypoints.shape[1:]).astype(np.float32)
inputs = [clips, np.arange(len(clips), dtype=np.int32)]
if "view" in about:  # no lens distortion, principal point at the image centre, equal confidence
  focal = 2 * float(sys.argv[5]) / width
  inputs += [np.ones(clips.shape[:3], np.float32), np.tile(np.float32([focal, focal] + 7 * [0]), (len(clips), 1))]
poses = lift(*inputs)
np.save(sys.argv[4], np.asarray(poses).reshape(-1, *poses.shape[2:])[: len(keypoints)])
