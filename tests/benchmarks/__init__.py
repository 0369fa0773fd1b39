"""Figures of speed, each by one command: `python -m tests.benchmarks` prints all, `python -m tests.benchmarks.NAME` one."""
