"""From services to handlers: reads the marks on their methods, checks them against the contracts, binds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mgmtnode.bus.message import ApiCall, ApiJob, Event, Internal, InTx, Message, reply_type
from mgmtnode.db.session import Tx
from mgmtnode.errors import NO_HANDLER
from mgmtnode.jobs.acceptance import JobSpec
from mgmtnode.loader import LoadError, file_of, messages, where
from mgmtnode.service import HandlerMark, Service, ServiceManifest
from mgmtnode.workflow.flow import FlowContext


@dataclass(frozen=True, slots=True)
class Bound:
    """A method that handles one message type."""

    message: type[Any]
    method: Callable[..., Any]
    mark: HandlerMark
    service: Service


@dataclass(slots=True)
class Handlers:
    """All that the loaded services handle, by kind."""

    jobs: dict[str, JobSpec] = field(default_factory=dict)
    calls: dict[type[ApiCall[Any]], Bound] = field(default_factory=dict)
    internal: dict[type[Internal[Any]], Bound] = field(default_factory=dict)
    in_tx: dict[type[InTx[Any]], Callable[[Tx, Any], Any]] = field(default_factory=dict)
    subscribers: list[tuple[type[Event], Callable[..., Any]]] = field(default_factory=list)

    def call_in_tx(self, tx: Tx, msg: InTx[Any]) -> Any:
        """Raises core.no-handler when no loaded service handles the message."""
        method = self.in_tx.get(type(msg))
        if method is None:
            raise NO_HANDLER.error(f"no loaded service handles {type(msg).__name__}")
        return method(tx, msg)


def bind(services: list[tuple[ServiceManifest, Service]]) -> Handlers:
    """Raises LoadError, naming the file, for a method or a contract that does not fit."""
    handlers = Handlers()
    owners: dict[type[Any], str] = {}
    validators: list[Bound] = []
    for manifest, service in services:
        for bound in marked(manifest, service):
            _check_shape(bound, manifest)
            if bound.mark.kind == "validate":
                validators.append(bound)
                continue
            if bound.mark.kind != "subscribe":
                _claim(owners, bound, manifest)
            _add(handlers, bound, manifest)
        _check_complete(manifest, owners)
    for bound in validators:
        api = getattr(bound.message, "api", None)
        spec = handlers.jobs.get(api.name) if api else None
        if spec is None:
            raise LoadError(
                f"{file_of(type(bound.service))}: validates {bound.message.__name__}, which nobody runs"
            )
        spec.validators.append(bound.method)
    return handlers


def marked(manifest: ServiceManifest, service: Service) -> list[Bound]:
    """The decorated methods of a service, in the order of their names."""
    found: list[Bound] = []
    for name, function in inspect.getmembers(type(service), inspect.isfunction):
        mark = getattr(function, "__mark__", None)
        if mark is None:
            continue
        parameter = "event" if mark.kind == "subscribe" else "msg"
        message = annotation(function, parameter, manifest)
        if not isinstance(message, type) or not issubclass(
            message, Event if mark.kind == "subscribe" else Message
        ):
            raise LoadError(
                f"{where(manifest)}: {name}() must annotate {parameter!r} with the type it handles"
            )
        found.append(Bound(message, getattr(service, name), mark, service))
    return found


def annotation(function: Callable[..., Any], name: str, manifest: ServiceManifest) -> Any:
    """One annotation of a method, evaluated where it was written."""
    plain = getattr(function, "__func__", function)
    hint = plain.__annotations__.get(name)
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, plain.__globals__)  # the service's own source text
    except (NameError, AttributeError) as exc:
        raise LoadError(f"{where(manifest)}: {function.__name__}(): {exc}; import it at run time") from exc
    except Exception as exc:
        raise LoadError(f"{where(manifest)}: {function.__name__}(): {hint!r} is no type: {exc}") from exc


def _claim(owners: dict[type[Any], str], bound: Bound, manifest: ServiceManifest) -> None:
    if bound.message in owners:
        raise LoadError(
            f"{where(manifest)}: {bound.message.__name__} has two handlers, the other in {owners[bound.message]}"
        )
    owners[bound.message] = where(manifest)


def _add(handlers: Handlers, bound: Bound, manifest: ServiceManifest) -> None:
    message, method = bound.message, bound.method
    if bound.mark.kind == "job":
        handlers.jobs[message.api.name] = _job(bound, manifest)
        return
    _check_reply(bound, manifest)
    if bound.mark.kind == "subscribe":
        handlers.subscribers.append((message, method))
    elif issubclass(message, InTx):
        handlers.in_tx[message] = method
    elif issubclass(message, ApiCall):
        handlers.calls[message] = bound
    elif issubclass(message, Internal):
        handlers.internal[message] = bound
    else:
        raise LoadError(
            f"{where(manifest)}: {method.__name__}(): {message.__name__} is a job; decorate it with @job"
        )


def _check_shape(bound: Bound, manifest: ServiceManifest) -> None:
    """Refuses a method that would be called with other parameters, or awaited when it cannot be."""
    is_async, wanted = _shape(bound)
    place = f"{where(manifest)}: {bound.method.__name__}() for {bound.message.__name__}"
    if inspect.iscoroutinefunction(bound.method) is not is_async:
        raise LoadError(f"{place} must be {'async' if is_async else 'a plain function'}")
    given = tuple(inspect.signature(bound.method).parameters)
    if given != wanted:
        raise LoadError(f"{place} must take ({', '.join(wanted)}), not ({', '.join(given)})")


def _shape(bound: Bound) -> tuple[bool, tuple[str, ...]]:
    """Whether a method is async, and its parameters."""
    match bound.mark.kind:
        case "job":
            return False, ("msg", "work") if bound.mark.flow else ("tx", "msg")
        case "validate":
            return False, ("tx", "msg", "caller")
        case "subscribe":
            return True, ("event",)
    if issubclass(bound.message, InTx):
        return False, ("tx", "msg")
    return True, ("msg", "caller") if issubclass(bound.message, ApiCall) else ("msg",)


def _job(bound: Bound, manifest: ServiceManifest) -> JobSpec:
    if not issubclass(bound.message, ApiJob):
        raise LoadError(
            f"{where(manifest)}: {bound.method.__name__}() is a @job of {bound.message.__name__}, not a job"
        )
    context = None
    if bound.mark.flow is not None:
        context = annotation(bound.method, "return", manifest)
        if not isinstance(context, type) or not issubclass(context, FlowContext):
            raise LoadError(
                f"{where(manifest)}: {bound.method.__name__}() must return the FlowContext of its flow"
            )
    else:
        _check_reply(bound, manifest)
    return JobSpec(
        message=bound.message, service=bound.service, run=bound.method, flow=bound.mark.flow, context=context
    )


def _check_reply(bound: Bound, manifest: ServiceManifest) -> None:
    if bound.mark.kind == "subscribe":
        return
    said = annotation(bound.method, "return", manifest)
    wanted = reply_type(bound.message)
    if said != wanted:
        name = getattr(said, "__name__", said)
        raise LoadError(
            f"{where(manifest)}: {bound.method.__name__}() returns {name}, the contract of "
            f"{bound.message.__name__} says {getattr(wanted, '__name__', wanted)}"
        )


def _check_complete(manifest: ServiceManifest, owners: dict[type[Any], str]) -> None:
    for module in manifest.contract:
        for message in messages(module):
            if message not in owners:
                raise LoadError(f"{where(manifest)}: nobody handles {message.__name__} of {file_of(module)}")
