"""Greetings that hang in zones."""
