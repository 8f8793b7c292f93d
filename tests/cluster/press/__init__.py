"""Sheets that are pressed: a service in two releases. ``release.py`` of a copy says which one it is."""
