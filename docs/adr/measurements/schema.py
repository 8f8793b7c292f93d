"""Measures msgspec against pydantic 2 on a message like "create a VM". Figures for ADR 0001.

    python -m venv v && v/bin/pip install msgspec pydantic && v/bin/python docs/adr/measurements/schema.py

Prints one table row a library: µs of CPU to decode and validate, to encode, both; time and memory of the
import; time and memory to build 60 message types and use each once. Every round is a process of its own; the
median of five is shown. "plain" is msgspec without the patterns on uuids, which cost more than the rest.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

UUID = "0192d1f0-7c1e-7cc3-98a4-0123456789ab"
UUID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
MESSAGE = json.dumps(
    {
        "name": "web-1",
        "description": "the first of the web servers",
        "zone_uuid": UUID,
        "offering_uuid": UUID,
        "image_uuid": UUID,
        "cpu": 4,
        "memory": 8 << 30,
        "nics": [{"network_uuid": UUID, "ip": None}, {"network_uuid": UUID, "ip": "10.0.0.7"}],
        "volumes": [{"size": 100 << 30, "offering_uuid": UUID}],
        "labels": ["role=web", "tier=front", "team=blue"],
        "placement": "LeastLoaded",
        "start": True,
    }
).encode()
TYPES = 60
ROUNDS = 5
LIBRARIES = ("msgspec", "plain", "pydantic")

Build = Callable[[int], tuple[Any, Callable[[bytes], Any], Callable[[Any], bytes]]]


def msgspec_types(pattern: str | None = UUID_PATTERN) -> Build:
    import msgspec
    from msgspec import Meta

    Uuid = Annotated[str, Meta(pattern=pattern)]
    Name = Annotated[str, Meta(min_length=1, max_length=255)]
    Label = Annotated[str, Meta(max_length=1024)]

    def build(n: int) -> tuple[Any, Callable[[bytes], Any], Callable[[Any], bytes]]:
        strict: dict[str, Any] = {"kw_only": True, "frozen": True, "forbid_unknown_fields": True}
        nic = msgspec.defstruct(f"Nic{n}", [("network_uuid", Uuid), ("ip", str | None, None)], **strict)
        positive = Annotated[int, Meta(ge=1)]
        volume = msgspec.defstruct(f"Volume{n}", [("size", positive), ("offering_uuid", Uuid)], **strict)
        fields = [
            ("name", Name),
            ("description", Annotated[str, Meta(max_length=2048)], ""),
            ("zone_uuid", Uuid),
            ("offering_uuid", Uuid),
            ("image_uuid", Uuid),
            ("cpu", Annotated[int, Meta(ge=1, le=4096)]),
            ("memory", Annotated[int, Meta(ge=1 << 20, le=1 << 50)]),
            ("nics", list[nic], []),  # type: ignore[valid-type]  # made at run time
            ("volumes", list[volume], []),  # type: ignore[valid-type]  # made at run time
            ("labels", list[Label], []),
            ("placement", str, "LeastLoaded"),
            ("start", bool, True),
        ]
        message = msgspec.defstruct(f"CreateVm{n}", fields, **strict)  # type: ignore[arg-type]
        return message, msgspec.json.Decoder(message).decode, msgspec.json.Encoder().encode

    return build


def pydantic_types() -> Build:
    from pydantic import BaseModel, ConfigDict, Field, create_model

    class Strict(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    Uuid = Annotated[str, Field(pattern=UUID_PATTERN)]
    Label = Annotated[str, Field(max_length=1024)]

    def build(n: int) -> tuple[Any, Callable[[bytes], Any], Callable[[Any], bytes]]:
        nic = create_model(f"Nic{n}", __base__=Strict, network_uuid=(Uuid, ...), ip=(str | None, None))
        size = Annotated[int, Field(ge=1)]
        volume = create_model(f"Volume{n}", __base__=Strict, size=(size, ...), offering_uuid=(Uuid, ...))
        fields: dict[str, Any] = {
            "name": (Annotated[str, Field(min_length=1, max_length=255)], ...),
            "description": (Annotated[str, Field(max_length=2048)], ""),
            "zone_uuid": (Uuid, ...),
            "offering_uuid": (Uuid, ...),
            "image_uuid": (Uuid, ...),
            "cpu": (Annotated[int, Field(ge=1, le=4096)], ...),
            "memory": (Annotated[int, Field(ge=1 << 20, le=1 << 50)], ...),
            "nics": (list[nic], []),  # type: ignore[valid-type]  # made at run time
            "volumes": (list[volume], []),  # type: ignore[valid-type]  # made at run time
            "labels": (list[Label], []),
            "placement": (str, "LeastLoaded"),
            "start": (bool, True),
        }
        message = create_model(f"CreateVm{n}", __base__=Strict, **fields)

        def encode(value: Any) -> bytes:
            return bytes(value.__pydantic_serializer__.to_json(value))  # what model_dump_json calls, as bytes

        return message, message.__pydantic_validator__.validate_json, encode

    return build


def rss_kib() -> int:
    """What this process holds alone; pages it shares with others of the same interpreter do not count."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def cpu_us(work: Callable[[], Any], times: int = 20_000) -> float:
    for _ in range(1000):
        work()
    before = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - before) / times * 1e6


def measure(library: str) -> dict[str, float]:
    empty, start = rss_kib(), time.process_time()
    types = {"msgspec": msgspec_types, "plain": partial(msgspec_types, None), "pydantic": pydantic_types}
    build = types[library]()
    imported_ms, imported = (time.process_time() - start) * 1e3, rss_kib()
    start = time.process_time()
    built = [build(n) for n in range(TYPES)]
    for _, decode, encode in built:
        encode(decode(MESSAGE))
    built_ms, with_types = (time.process_time() - start) * 1e3, rss_kib()
    _, decode, encode = built[0]
    value = decode(MESSAGE)
    assert json.loads(encode(value)) == json.loads(MESSAGE)
    return {
        "decode": cpu_us(lambda: decode(MESSAGE)),
        "encode": cpu_us(lambda: encode(value)),
        "both": cpu_us(lambda: encode(decode(MESSAGE))),
        "import_ms": imported_ms,
        "import_mib": (imported - empty) / 1024,
        "types_ms": built_ms,
        "types_mib": (with_types - imported) / 1024,
    }


def main() -> None:
    runs: dict[str, list[dict[str, float]]] = {library: [] for library in LIBRARIES}
    for _ in range(ROUNDS):
        for library in LIBRARIES:  # in turns, so that a slow minute of the machine hits all
            output = subprocess.run(
                [sys.executable, __file__, library], capture_output=True, check=True
            ).stdout
            runs[library].append(json.loads(output))
    print("library    " + " ".join(f"{column:>11}" for column in runs["msgspec"][0]))
    for library, figures in runs.items():
        medians = [statistics.median(run[column] for run in figures) for column in figures[0]]
        print(f"{library:<10} " + " ".join(f"{median:11.2f}" for median in medians))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
