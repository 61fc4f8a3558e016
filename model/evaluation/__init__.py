"""Scores predictions and baselines on clips and benchmarks. The service never imports this."""
