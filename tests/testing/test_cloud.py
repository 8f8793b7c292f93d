"""The booted node for tests tells what it does when it does not do what a test waits for."""

from __future__ import annotations

from mgmtnode.testing.cloud import Cloud


def test_a_node_tells_its_jobs_its_tasks_and_its_database_threads(cloud: Cloud) -> None:
    cloud.create("zones", name="west")
    said = cloud.doing()
    assert "jobs: {'running': {}, 'waiting': {}" in said
    assert "jobs.sweep" in said and "db-" in said
