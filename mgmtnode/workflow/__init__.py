"""Flows: named steps, each with an undo, that another node can resume or roll back."""
