"""Diffusion over poses: process, sampler and denoisers, without adapters or training. Imports geometry only.

- `process`: `Diffusion`, `cosine_schedule`, `q_sample`, `clamp`, `ddim_times`, `ddim_steps`.
- `sampler`: `Denoiser`, `with_flip`, `predict`, `ddim_step`, `sample`, `propose`.
- `hypotheses`: one pose from H; `solve_roots`, `reprojection_error`, `choose`, `pick`, `by_bones`, `aggregate`.
- `denoisers`: `make_model`, from a config.
- `mixste`, `videopose`: the two networks, `MixSTE` and `VideoPose`.
"""
