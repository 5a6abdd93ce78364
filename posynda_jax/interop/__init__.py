"""Files of other programs: detectors' keypoints, PyTorch checkpoints, BVH, and exported models.

May import every other room but `lifter`, which imports this one.

convert: `read` and `write` bases and adapters as PyTorch files, run folders and `.safetensors`; `Converted`, `Hints`
serving: `merge_adapter`, `make_lift`, `export_lift`, `save_jaxexport`; `make_call`, `save_onnx`
bvh_writer: `write` poses as a BVH file
keypoints: `recordings.read` a keypoint file of a known detector; a new format is a row of `formats.FORMATS` with its
  reader, a new joint order a layout in `geometry.layouts`
video: `detection.detect` the 2D of everybody in a video, with BlazePose or rtmlib
qualisys: `read_calibration` of several cameras
motion_tables: `write_trc`, `write_angles`
torch_file: `load_torch`, `save_torch`, without PyTorch
torch_names: the reference's names, `params_from_torch`, `params_to_torch`, `lora_from_torch`, `lora_to_torch`
torch_networks: `recognise` the network of a state dict; `torch_modules`, `state_shapes`
torch_weights: `read_torch`, `write_torch`, between a PyTorch file and `Converted`
"""
