"""Measurements: each module is one command that writes JSON to benchmarks/results/."""
