"""A worker that says what a test has laid ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class FakeWorker:
    """Answers a request with the events that a test has laid ready, one for each poll."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events, self.requests, self.cancelled, self.stopped = list(events), [], [], False
        self._deliver: Callable[[dict], None] = lambda event: None

    def __call__(self, deliver: Callable[[dict], None]) -> FakeWorker:
        self._deliver = deliver
        return self

    def request(self, kind: str, **payload: Any) -> str:
        self.requests.append((kind, payload))
        return f"id{len(self.requests)}"

    def cancel(self, id: str) -> None:
        self.cancelled.append(id)
        self.events = [{"event": "failure", "kind": "cancelled", "message": "Cancelled.", "remedy": ""}]

    def poll(self) -> None:
        if self.events:
            event = self.events.pop(0)
            self._deliver({"id": f"id{len(self.requests)}", **event})

    def stop(self) -> None:
        self.stopped = True
