"""``hs client``: runs tasks of a server that is reached over the network."""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from typing import TYPE_CHECKING

from hypershell.errors import ExitStatus, TransportError, UsageError
from hypershell.hosts import host_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypershell.config import Config
    from hypershell.proto.messages import ClientSettings
    from hypershell.settings import DialSettings, JoinSettings

__all__ = ["main"]

log = logging.getLogger("hypershell.client")


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _client(argv))


def _client(argv: list[str]) -> int:
    from hypershell.apps.cluster import available_cores
    from hypershell.apps.folders import site_folder
    from hypershell.apps.parse_net import parse_client
    from hypershell.executor.system import IS_WINDOWS
    from hypershell.limits import ENOUGH, raise_descriptors, require_descriptors
    from hypershell.template import Template

    soft_limit = raise_descriptors()
    require_descriptors(ENOUGH)
    settings, dial, config = parse_client(argv)
    if not settings.template.strip():
        raise UsageError("the template is empty: '{}' stands for the line itself")
    Template(settings.template, windows=IS_WINDOWS)
    if settings.capture:
        site_folder(config, config.sites.default.task)
    _delay(settings.delay_start)
    return _run(settings, dial, config, settings.slots or available_cores(), soft_limit)


def _delay(seconds: float) -> None:
    """Clients that are started together need not come together."""
    if seconds:
        time.sleep(seconds if seconds > 0 else random.uniform(0.0, -seconds))


def _run(
    settings: JoinSettings, dial: DialSettings, config: Config, slots: int, soft_limit: int | None
) -> int:
    from hypershell import __version__, reactor
    from hypershell.apps.client_end import ClientEnd
    from hypershell.apps.dial import find_target
    from hypershell.core.model import ClientInfo
    from hypershell.executor.client import signals_to
    from hypershell.executor.loop import Executor
    from hypershell.executor.system import begin_guard
    from hypershell.ids import IdSource
    from hypershell.net.dialer import Dialer, Patience
    from hypershell.server.targets import Opening, Outputs

    target = find_target(dial, config)
    poller = reactor.Poller()
    files = Outputs(settings.output, settings.errors)
    files.claim(Opening.ASIDE)
    out, err, _ = files.open(Opening.ASIDE)
    outputs = ((out, settings.output or "stdout"), (err, settings.errors or "stderr"))
    reconnect = settings.reconnect or None
    info = ClientInfo(
        IdSource().task(),
        host_name(),
        os.getpid(),
        slots,
        __version__,
        sys.platform,
        outlives=reconnect is not None,
        labels=settings.label,
    )
    patience = Patience(reconnect=settings.reconnect, beat=settings.heartrate)
    dialer = Dialer(poller, target, info.id, patience=patience)
    end = ClientEnd(dialer, poller, _adapting(settings), settings.template, outputs, time.monotonic)
    guard = begin_guard(info.id)
    executor = Executor(
        poller, end, info, guard=guard, alone=True, reconnect=reconnect, soft_limit=soft_limit
    )
    try:
        with signals_to(executor):
            reactor.run(poller, [executor])
    finally:
        executor.close()
        end.close()
        files.close()
        poller.close()
    if lost := end.lost_output():
        log.error("no space left for the rest of what tasks printed to %s; it is lost", " and ".join(lost))
    if executor.lost is not None:
        raise TransportError(executor.lost)
    log.debug("Client ended: %s", executor.reason)
    return ExitStatus.SUCCESS


def _adapting(own: JoinSettings) -> Callable[[ClientSettings], ClientSettings]:
    """What holds here: our own words go before the server's."""
    from msgspec.structs import replace

    from hypershell.making import PRIVATE_FOLDER
    from hypershell.ostext import to_bytes

    def adapt(given: ClientSettings) -> ClientSettings:
        changes = {
            "bundlesize": own.client_bundlesize,
            "bundlewait": own.client_bundlewait,
            "signalwait": own.signalwait,
            "idle_timeout": own.idle_timeout,
            "task_timeout": own.task_timeout,
            "ratelimit": own.ratelimit,
        }
        return replace(
            given,
            capture=own.capture,
            capture_dir=to_bytes(own.capture_dir),
            folder_mode=own.site_mode or PRIVATE_FOLDER,
            # The server's directories need not exist here.
            task_cwd=to_bytes(own.task_cwd or os.getcwd()),
            task_env=own.task_env,
            task_bind=own.task_bind,
            **{name: value for name, value in changes.items() if value is not None},
        )

    return adapt
