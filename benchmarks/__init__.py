"""Measurements: `python -m benchmarks NAME [--json]`; figures and commands are in README.md."""
