"""A world for each test, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workshop.world import World, open_world


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> World:
    return open_world(database_url or f"sqlite:///{tmp_path / 'world.db'}")
