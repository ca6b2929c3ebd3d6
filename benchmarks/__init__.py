"""Figures of docs/performance.md: `python -m benchmarks [names] [--quick]`."""
