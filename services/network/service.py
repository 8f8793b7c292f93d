"""The network service, made of its handlers."""

from __future__ import annotations

from services.network.handlers.l2 import L2Handlers
from services.network.handlers.l3 import L3Handlers
from services.network.handlers.nics import NicHandlers
from services.network.handlers.ranges import RangeHandlers


class NetworkService(L2Handlers, L3Handlers, RangeHandlers, NicHandlers):
    pass
