"""The client: SDK and mnctl, against real HTTP."""
