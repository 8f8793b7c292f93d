"""Writes the pages of docs/reference from declarations, so that no fact is written twice."""
