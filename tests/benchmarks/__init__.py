"""Effective draws a second of every engine and its peers, judged before timed: `python -m tests.benchmarks`."""
