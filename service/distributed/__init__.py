"""Predictions and jobs over Redis: front ends queue them, workers run them."""
