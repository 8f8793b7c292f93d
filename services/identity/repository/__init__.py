"""The only SQL of the identity service."""
