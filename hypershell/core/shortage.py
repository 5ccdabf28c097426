"""Clients whose machine is short of something, so that fewer tasks can run there than they have slots, or none.

Such a client says how many it can run (``Room``), and gets no more than that. What it could not start goes back, to
others where there are any, and nobody is judged by it. Where nothing runs anywhere and nothing could be started for
``Policy.room_wait`` seconds the run ends with the reason: it would wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from hypershell.core import actions as act
from hypershell.core.clients import Client
from hypershell.core.model import Room
from hypershell.core.policy import Policy
from hypershell.core.recall import Recalling

__all__ = ["NO_ROOM", "Shortage"]

#: The reason of a run that ended since nothing could be started.
NO_ROOM = "no room"


class Shortage(Recalling):
    """The part of the scheduler that minds how much clients can run."""

    def __init__(self, policy: Policy, new_id: Callable[[], str], epoch: float = 0.0) -> None:
        super().__init__(policy, new_id, epoch)
        self._stuck: dict[int, Client] = {}
        """Clients where nothing runs and nothing could be started."""
        self._stuck_since: float | None = None
        """Since when that holds for all who have anything to do."""

    def _has_room(self, client: Client, room: Room) -> None:
        """`client` says how many tasks can run there."""
        self._clients.resize(client, room.slots)
        if len(client.holding) > client.slots:
            self._queued = True
        if room.in_vain:
            client.stuck = "".join(letter if letter.isprintable() else "?" for letter in room.reason)
            self._stuck[client.number] = client
        else:
            self._unstick(client)

    def _unstick(self, client: Client) -> None:
        """Something ran there, or it is gone."""
        client.stuck = None
        if self._stuck.pop(client.number, None) is not None and not self._stuck:
            self._stuck_since = None

    def _waited_for_room(self, now: float) -> bool:
        """Whether the run has long been standing still for want of room; says so once it has."""
        off = self._stopping is not None or self._stalled or self.policy.forever
        stuck = list(self._stuck.values())
        wanted = any(map(self._is_waited_for, stuck))
        if off or not wanted or self.inflight() > sum(len(client.holding) for client in stuck):
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now
        elif now >= self._stuck_since + self.policy.room_wait and not self.inflight():
            hosts = list(dict.fromkeys(client.info.host for client in stuck))
            where = hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts, such as {hosts[0]}"
            text = f"No task could be started for {self.policy.room_wait:g} s on {where}: {stuck[0].stuck}"
            way_out = "free some there or allow more (ulimit), or use fewer slots (-N)"
            self._out.append(act.Note("critical", "server", f"{text}; {way_out}"))
            return True
        return False

    def _is_waited_for(self, client: Client) -> bool:
        """Whether `client` has a task, or there is one for it."""
        group = self._groups.current
        if client.holding or group is None:
            return bool(client.holding)
        return group.for_kind(client.kind) > 0 or group.suspects_for(client.kind) > 0

    def _gives_up_at(self) -> float | None:
        """When the run ends unless something can be started; the answer to an attempt is waited for."""
        if self._stuck_since is None or self._stopping is not None or self.inflight():
            return None
        return self._stuck_since + self.policy.room_wait
