"""The gateway: everything that comes from outside, and the only place that knows HTTP."""
