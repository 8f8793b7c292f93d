"""The services: one folder each, the same file names, no imports between them."""
