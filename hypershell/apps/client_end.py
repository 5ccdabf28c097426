"""What a client over the network does in its own way, between its connection and its executor.

What tasks print stays here: it goes to this client's own stdout and stderr, or files. Settings of the server give
way to those of the user who started this client. The executor notices nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from hypershell.ostext import to_bytes
from hypershell.proto import messages as msg
from hypershell.reactor import Poller
from hypershell.server.output import Sink
from hypershell.transport import SERVER, Delivery, Endpoint

__all__ = ["ClientEnd"]

#: Seconds between two attempts to write to a full disk, and attempts at the end.
_RETRY = 1.0
_ATTEMPTS = 10


class ClientEnd:
    """The endpoint of a client over `inner`.

    :param adapt: from the server's settings to those that hold here.
    :param template: of tasks whose submission has none.
    :param outputs: descriptor and name for what tasks write to stdout and to stderr.
    """

    def __init__(
        self,
        inner: Endpoint,
        poller: Poller,
        adapt: Callable[[msg.ClientSettings], msg.ClientSettings],
        template: str,
        outputs: tuple[tuple[int, str], tuple[int, str]],
        clock: Callable[[], float],
    ) -> None:
        self._inner = inner
        self._adapt = adapt
        self._template = template
        self._sinks = [Sink(fd, name, poller, self._taken) for fd, name in outputs]
        self._written = 0
        self._clock = clock
        self._retry_at: float | None = None
        self._tries = 0

    def poll(self) -> list[Delivery]:
        """What the server sent, with our own settings in it, and room for what was written."""
        found = [Delivery(peer, self._ours(message)) for peer, message in self._inner.poll()]
        self._pump()
        if self._written:
            found.append(Delivery(SERVER, msg.OutputTaken(self._written)))
            self._written = 0
        return found

    def send(self, peer: int, message: Any) -> None:
        """Output is written here, everything else goes to the server."""
        if type(message) is msg.Output:
            for sink, data in zip(self._sinks, (message.out, message.err), strict=True):
                sink.put(data, SERVER)
            self._pump()
        else:
            self._inner.send(peer, message)

    def flush(self) -> bool:
        """Push everything; True when nothing is left to send or write."""
        self._pump()
        written = all(sink.empty for sink in self._sinks) or self._tries >= _ATTEMPTS
        return self._inner.flush() and written

    def wait_hint(self, now: float) -> float | None:
        """As the connection says; sooner where a full disk is tried again."""
        hint = 0.0 if self._written else self._inner.wait_hint(now)
        if self._retry_at is None:
            return hint
        again = max(0.0, self._retry_at - now)
        return again if hint is None else min(hint, again)

    def expect(self, soon: bool) -> None:
        """Passed on."""
        self._inner.expect(soon)

    def silence(self, peer: int) -> float | None:
        """As the connection says."""
        return self._inner.silence(peer)

    def drop(self, peer: int, reason: str) -> None:
        """Passed on."""
        self._inner.drop(peer, reason)

    def close(self) -> None:
        """Hang up."""
        self._inner.close()

    def lost_output(self) -> list[str]:
        """Where output could not be written to its end."""
        return [sink.name for sink in self._sinks if not sink.empty]

    def _taken(self, peer: int, size: int) -> None:
        self._written += size

    def _pump(self) -> None:
        now = self._clock()
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._tries += 1
            if all([sink.retry() for sink in self._sinks]):  # noqa: C419 - all of them are tried
                self._tries = 0
        for sink in self._sinks:
            if not sink.empty:
                sink.pump()
        if self._retry_at is None and any(sink.stuck for sink in self._sinks):
            self._retry_at = now + _RETRY

    def _ours(self, message: Any) -> Any:
        if type(message) is msg.Welcome:
            return msg.Welcome(self._adapt(message.settings))
        if type(message) is msg.Work and message.contexts:
            return msg.Work(message.tasks, [self._our_context(one) for one in message.contexts])
        return message

    def _our_context(self, one: msg.Context) -> msg.Context:
        """The server's directory of captured output need not exist here."""
        template = to_bytes(self._template) if one.template == b"{}" else one.template
        return replace(one, template=template, capture=False)
