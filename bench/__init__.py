"""Benchmarks: `make bench` measures and writes docs/benchmarks.md. Timings are never asserted in tests."""
