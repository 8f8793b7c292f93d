"""Queries over all resources: a join graph built from declared references, a condition grammar, and the SQL for both."""
