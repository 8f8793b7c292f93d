"""A running node with one of everything in it."""

from __future__ import annotations

import pytest

from mgmtnode.testing.cloud import Cloud
from tests.e2e.scene import Scene


@pytest.fixture
def scene(cloud: Cloud) -> Scene:
    return Scene(cloud)
