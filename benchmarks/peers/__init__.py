"""The same predictor behind other servers under the same load: `python -m benchmarks.peers` compares them with ours."""
