"""Swapping weights under load: `python -m benchmarks.swap`."""
