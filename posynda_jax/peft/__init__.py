"""Parameter-efficient tuning of any linen model, as functions on two trees: base and adapter. Imports no other room.

- `lora`: low-rank adapters; `targets`, `init`, `bind`, `merge`, `unmerge`, `combine`, `relative_norms`.
- `deltas`: full-rank differences to leaves chosen by a rule; `init`, `add`, `RULES`.
- `counting`: `count` of parameters, `linear_flops`.
"""
