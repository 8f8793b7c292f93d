"""A site to run VMs on."""

from __future__ import annotations

import pytest

from mgmtnode.testing.cloud import Cloud
from tests.services.vm.site import Site


@pytest.fixture
def site(cloud: Cloud) -> Site:
    return Site(cloud)
