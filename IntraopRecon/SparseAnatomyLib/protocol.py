"""What the panel and its worker say to each other: one JSON object a line.

Requests go to the worker's stdin as bare JSON. Events come back on stdout, each line beginning with `PREFIX`, because libraries print and
Slicer's launcher merges stderr into stdout: a line without the prefix is somebody's chatter, never an error. Arrays travel as files.

A request that is answered gives `started`, any number of `progress`, `preview` and `warning`, then exactly one `result` or `failure`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, BinaryIO, ClassVar

PROTOCOL_VERSION = 1
PREFIX = "@SparseAnatomy "
CANCEL = "cancel"
"""The request kind that stops another one: its payload is `{"target": id}`. It has no answer of its own; the target's failure is one."""
FAILURE_KINDS = ("input", "resource", "cancelled", "internal")
MAX_LINE_BYTES = 1 << 20
"""Nothing that is said here is as long; a longer line is dropped as it comes, so that it cannot fill the memory."""

UPDATE_REMEDY = "Restart the application, so that the panel and its worker come from the same version."

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TYPE_NAMES = {str: "text", dict: "an object", float: "a number"}


class ProtocolError(Exception):
    """A line that breaks the protocol.

    Attributes:
        request_id: The id that the line carried, where it could be read; otherwise empty.
    """

    def __init__(self, message: str, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id


class VersionError(ProtocolError):
    """A line of another protocol version: the panel and its worker do not belong together."""


@dataclass(frozen=True)
class Request:
    """What the host asks for.

    Attributes:
        id: 1 to 64 letters, digits, `-` or `_`.
        kind: What to do; each worker names its own, and `cancel` is everyone's.
        payload: JSON-ready values.
    """

    id: str
    kind: str
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """The job has left the queue and runs."""

    event: ClassVar[str] = "started"
    id: str


@dataclass(frozen=True)
class Progress:
    """How far it is: share done, 0 to 1, and one sentence."""

    event: ClassVar[str] = "progress"
    id: str
    fraction: float
    message: str


@dataclass(frozen=True)
class Preview:
    """An intermediate result lies at this path."""

    event: ClassVar[str] = "preview"
    id: str
    path: str


@dataclass(frozen=True)
class Warn:
    """A sentence the user should read; the job goes on."""

    event: ClassVar[str] = "warning"
    id: str
    message: str


@dataclass(frozen=True)
class Result:
    """The job is done; the files by their role, such as `volume`."""

    event: ClassVar[str] = "result"
    id: str
    paths: dict[str, str]


@dataclass(frozen=True)
class Failure:
    """The job has ended without a result: one of `FAILURE_KINDS`, what is wrong, and what to do.

    An empty id means that the request could not be read far enough to know whose failure this is.
    """

    event: ClassVar[str] = "failure"
    id: str
    kind: str
    message: str
    remedy: str


Event = Started | Progress | Preview | Warn | Result | Failure
_EVENTS: dict[str, type[Event]] = {cls.event: cls for cls in (Started, Progress, Preview, Warn, Result, Failure)}
_JSON_TYPES = {"str": str, "float": float, "dict[str, str]": dict}


def request_line(request: Request) -> bytes:
    """Return the request as one line, newline included."""
    return _dump({"protocol_version": PROTOCOL_VERSION, **asdict(request)}) + b"\n"


def event_line(event: Event) -> bytes:
    """Return the event as one line; it begins with a newline too, so that chatter without one cannot run into it."""
    return b"\n" + PREFIX.encode() + _dump({"protocol_version": PROTOCOL_VERSION, **event_values(event)}) + b"\n"


def event_values(event: Event) -> dict[str, Any]:
    """Return the event as a dictionary: its fields, and its name under `event`."""
    return {"event": event.event, **asdict(event)}


def parse_request(line: bytes) -> Request:
    """Read one line of the worker's stdin.

    Raises:
        ProtocolError: It is no request of this protocol version.
    """
    values = _load(line)
    request_id = _take(values, "id", str, "")
    if not _ID.fullmatch(request_id):
        raise ProtocolError("id: expected 1 to 64 letters, digits, - or _.")
    _check_version(values, request_id)
    return Request(request_id, _take(values, "kind", str, request_id), _take(values, "payload", dict, request_id))


def parse_event(line: bytes) -> Event | None:
    """Read one line of the worker's stdout.

    Returns:
        The event; None where the line is chatter.

    Raises:
        ProtocolError: The line has the prefix but is no event of this protocol version.
    """
    if not line.startswith(PREFIX.encode()):
        return None
    values = _load(line[len(PREFIX) :])
    request_id = _take(values, "id", str, "")
    _check_version(values, request_id)
    cls = _EVENTS.get(_take(values, "event", str, request_id))
    if cls is None:
        raise ProtocolError(f"event: expected one of {', '.join(_EVENTS)}.", request_id)
    event = cls(**{f.name: _take(values, f.name, _JSON_TYPES[f.type], request_id) for f in fields(cls)})
    if isinstance(event, Progress) and not 0 <= event.fraction <= 1:
        raise ProtocolError("fraction: expected 0 to 1.", request_id)
    if isinstance(event, Failure) and event.kind not in FAILURE_KINDS:
        raise ProtocolError(f"kind: expected one of {', '.join(FAILURE_KINDS)}.", request_id)
    if isinstance(event, Result) and not all(isinstance(path, str) for path in event.paths.values()):
        raise ProtocolError("paths: expected an object of texts.", request_id)
    return event


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the stream's lines without their ends until it closes.

    A line longer than `MAX_LINE_BYTES` comes out cut to that length (which no parser takes for a whole one), the rest is dropped.
    """
    while line := stream.readline(MAX_LINE_BYTES):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES)
        yield line.rstrip(b"\r\n")


def _dump(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=True, allow_nan=False).encode("ascii")


def _load(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ProtocolError(f"Expected one JSON object, got a line of {len(line)} bytes that is not JSON.") from error
    if not isinstance(values, dict):
        raise ProtocolError(f"Expected one JSON object, got a {type(values).__name__}.")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON.")


def _take(values: Mapping[str, Any], name: str, expected: type, request_id: str) -> Any:
    value = values.get(name)
    number = expected is float and isinstance(value, int | float) and not isinstance(value, bool)
    if not (number or isinstance(value, expected)):
        raise ProtocolError(f"{name}: expected {_TYPE_NAMES[expected]}.", request_id)
    return value


def _check_version(values: Mapping[str, Any], request_id: str) -> None:
    version = values.get("protocol_version")
    if type(version) is not int or version != PROTOCOL_VERSION:
        raise VersionError(f"protocol_version: expected {PROTOCOL_VERSION}, got {str(version)[:40]}.", request_id)
