"""The life of a task as data: states, what moves between them, and nothing else that may.

The diagram in ``docs/architecture.md`` is printed from ``TRANSITIONS`` (``python -m hypershell.core.states``).
"""

from __future__ import annotations

__all__ = [
    "CANCELLED",
    "DISPATCHED",
    "FAILED",
    "FINAL",
    "GONE",
    "PENDING",
    "SUCCEEDED",
    "TRANSITIONS",
    "diagram",
    "from_which",
    "move",
]

PENDING = "pending"
DISPATCHED = "dispatched"
SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELLED = "cancelled"
#: No row any more; the end mark of the diagram.
GONE = "[*]"

FINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})

#: (state, what happened) -> next state. A retry is a new row; the old one stays ``failed`` with ``retried``.
TRANSITIONS: dict[tuple[str, str], str] = {
    (PENDING, "dispatch"): DISPATCHED,
    (PENDING, "cancel"): CANCELLED,
    (PENDING, "poison"): FAILED,
    (DISPATCHED, "success"): SUCCEEDED,
    (DISPATCHED, "failure"): FAILED,
    (DISPATCHED, "return"): PENDING,
    (DISPATCHED, "client lost"): PENDING,
    (DISPATCHED, "takeover"): PENDING,
    (DISPATCHED, "cancel"): CANCELLED,
    (SUCCEEDED, "revert"): PENDING,
    (FAILED, "revert"): PENDING,
    (CANCELLED, "revert"): PENDING,
    (PENDING, "delete"): GONE,
    (SUCCEEDED, "delete"): GONE,
    (FAILED, "delete"): GONE,
    (CANCELLED, "delete"): GONE,
}


def move(state: str, event: str) -> str | None:
    """The state after `event`, or None where the table has no such move."""
    return TRANSITIONS.get((state, event))


def from_which(event: str) -> tuple[str, ...]:
    """The states in which `event` may happen."""
    return tuple(old for old, what in TRANSITIONS if what == event)


def diagram() -> str:
    """The table as a mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {PENDING}: submit, retry"]
    lines += [f"    {old} --> {new}: {event}" for (old, event), new in TRANSITIONS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
