"""Which nodes there are, and who of them works on what."""
