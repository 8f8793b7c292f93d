"""Placement: which host a VM goes to, and what hosts have left."""
