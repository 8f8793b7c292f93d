"""Membership: which nodes there are and which slots each owns."""
