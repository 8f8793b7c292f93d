from tests.workflow.conftest import world

__all__ = ["world"]
