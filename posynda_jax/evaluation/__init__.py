"""Scores of a denoiser: errors in mm on labelled clips, reprojection errors in px on records without labels.

This room imports geometry, runtime, diffusion, data and datasets. Every result holds its protocol.

- `scoring`: `SamplingConfig`, `make_scorer`, `make_rule_scorer`, `evaluate`, `evaluate_rules`, `propose`, `combine`,
  `aggregations`, `describe_protocol`.
- `people`: the bone lengths of each recorded person, for the rule `bones`; `make_observer`, `measure`.
- `lifting`: `Lifted`, `make_lifter`, `lift_record`, `find_up`, `see_level`, `mean_reprojection`, `rate_warning`.
- `spread`: what hypotheses and a doubt head are worth; `deviations`, `distance`, `measure`, `Totals`.
- `trust`: which frames of a lifted video can be believed; `Trust`, `judge`, `CHECKS`,
  `measure_motion`, `is_disordered`.
- `protocols`: the field's protocols as data; `PROTOCOLS`, `OPEN`, `of_target`, `frame_scores`.
- `tally`: frame scores summed by label; `Tally`, `table`.
- `results`: a run's scores as text; `closure`, `both`, `result_table`, `result_text`.
"""
