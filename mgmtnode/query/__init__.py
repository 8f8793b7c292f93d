"""Queries over all resources: the join graph of declared references, a condition grammar, and their SQL."""
