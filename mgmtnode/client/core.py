"""What the sync and the async client share: their collections, their settings and their job handles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, Self, TypeVar

from mgmtnode.client import operations as ops
from mgmtnode.client.exchange import Caller, Lost, Reply, Send
from mgmtnode.client.records import JobState
from mgmtnode.client.settings import Settings, split_urls

C = TypeVar("C")
Observer = Callable[[Send, Reply | Lost, float], None]


class Known(Generic[C]):
    """``client.zones``, ``client.vms`` …: the collections every management node has, of the client's flavour
    ``C``.

    Plug-in services add more: ``client.collection("volumes")``.
    """

    zones: C
    clusters: C
    hosts: C
    instance_offerings: C
    l2_networks: C
    l3_networks: C
    ip_ranges: C
    nics: C
    vms: C
    accounts: C
    users: C
    policies: C
    api_keys: C
    quotas: C
    global_configs: C
    tags: C


class ClientCore(Known[C]):
    """``urls``: one base URL, several with commas, or a sequence; the first that works is used until it
    fails.

    ``timeout`` bounds one attempt, ``retry_for`` all attempts of one request, both in seconds. ``observer``
    hears of each attempt, its outcome and the seconds it took.
    """

    def __init__(
        self, urls: str | Iterable[str] = (), token: str | None = None, *, ca_file: str | None = None,
        timeout: float = 30.0, retry_for: float = 60.0, observer: Observer | None = None,
    ) -> None:  # fmt: skip
        bases = split_urls(urls if isinstance(urls, str) else ",".join(urls)) or Settings().urls
        self.caller = Caller(bases, token, timeout, retry_for)
        self.job_calls = ops.Jobs(self.caller)
        self.ca_file, self.observer = ca_file, observer
        for name in Known.__annotations__:
            setattr(self, name, self.collection(name.replace("_", "-")))

    @classmethod
    def from_settings(cls, settings: Settings, **options: Any) -> Self:
        return cls(settings.urls, settings.token, ca_file=settings.ca_file, **options)

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """From MGMTNODE_URL, MGMTNODE_TOKEN, MGMTNODE_TOKEN_FILE and MGMTNODE_CA_FILE."""
        return cls.from_settings(Settings.from_env(), **options)

    def collection(self, plural: str) -> C:
        raise NotImplementedError


class JobCore:
    """A mutation that was accepted. ``state`` is what was last seen of it; None if the answer came at once.

    Letting go of the handle does not stop the job.
    """

    def __init__(self, accepted: ops.Accepted) -> None:
        self.accepted = accepted
        self.state: JobState | None = accepted.job

    def __repr__(self) -> str:
        return f"<Job {self.uuid} {self.state.get('state')}>" if self.state else "<Job, settled at once>"

    @property
    def uuid(self) -> str | None:
        return self.state["uuid"] if self.state else None

    @property
    def resource_uuid(self) -> str | None:
        """Decided when the job was accepted, so it is known before the resource is ready."""
        if self.state:
            return self.state.get("resource_uuid")
        return self.accepted.result.get("uuid") if isinstance(self.accepted.result, dict) else None

    @property
    def open(self) -> JobState | None:
        """The state, if the job had not ended when last seen."""
        return None if self.state is None or self.state.ended else self.state
