"""Benchmarks of the product as it is run: real processes, real HTTP, real files."""
