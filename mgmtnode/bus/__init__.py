"""The message bus: how services meet."""
