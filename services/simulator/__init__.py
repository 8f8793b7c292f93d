"""Simulated hosts."""
