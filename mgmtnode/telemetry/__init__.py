"""What operators see of a running node: metrics, logs, the lag of its event loop."""
