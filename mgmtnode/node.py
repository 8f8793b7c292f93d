"""The management node: builds its parts in order, boots, drains, stops. Read this first.

    lock → database → membership → settings → bus → jobs → services → API

A part that has started is stopped again, in reverse, when a later one fails or when the node is told to stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mgmtnode import __version__
from mgmtnode.agents.local import LocalAgents
from mgmtnode.agents.port import Agents
from mgmtnode.api.gateway import Gateway
from mgmtnode.api.server import ApiServer
from mgmtnode.bus.bus import Bus
from mgmtnode.bus.transport import Transport
from mgmtnode.cascade.graph import CascadeGraph
from mgmtnode.cluster.membership import Membership
from mgmtnode.config import core_properties as core
from mgmtnode.config.configs import GlobalConfigs
from mgmtnode.config.file import Properties
from mgmtnode.db.engine import open_database
from mgmtnode.db.lock import DirectoryLock
from mgmtnode.db.schema import upgrade
from mgmtnode.db.session import SqlDatabase
from mgmtnode.events.log import EventLog
from mgmtnode.extension.registry import Extensions
from mgmtnode.handlers import Handlers, bind
from mgmtnode.jobs.jobs import JOB_CONFIGS, Jobs
from mgmtnode.jobs.repository import JobRepository
from mgmtnode.jobs.start import start_runner
from mgmtnode.loader import values
from mgmtnode.ports import Clock, Rng, SystemClock, SystemRng, UuidSource
from mgmtnode.query.engine import Query
from mgmtnode.ring.slots import Slots
from mgmtnode.schema import Resource
from mgmtnode.service import NodeContext, Service, ServiceManifest
from mgmtnode.tags.tags import Tags
from mgmtnode.tasks.periodic import Periodic

log = logging.getLogger(__name__)
Step = tuple[str, Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]
