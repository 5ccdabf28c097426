"""Options and keys of HyperShell that command lines and files may go on having, although nothing here needs them.

Those of ``cluster`` about the network gain effect when it has clients on other hosts.
"""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import CLIENT, SERVE, SERVER, SUBMIT
from hypershell.options.kinds import Option

__all__ = ["IDLE_OPTIONS"]

_CLUSTER = ("cluster",)


def _switch(name: str, commands: tuple[str, ...], text: str) -> Option:
    dest = "idle_" + name.replace("-", "_")
    return Option(dest, commands, text, flags=(f"--{name}",), parse=values.flag, default=False, idle=True)


def _path(name: str, commands: tuple[str, ...], text: str) -> Option:
    dest = "idle_" + name.replace("-", "_")
    return Option(dest, commands, text, flags=(f"--{name}",), metavar="PATH", parse=values.path, idle=True)


IDLE_OPTIONS: tuple[Option, ...] = (
    Option(
        "idle_poll",
        SERVE,
        "No effect: nothing waits for a poll.",
        flags=("-Q", "--poll"),
        metavar="SEC",
        parse=values.duration(zero=True),
        key="server.poll",
        default_text="none",
        idle=True,
    ),
    _switch("no-confirm", (*SERVE, *CLIENT), "No effect: a task is never lost between server and client."),
    _switch("initdb", SERVE, "No effect: a run makes the tables where they are missing."),
    Option(
        "idle_bind",
        _CLUSTER,
        "No effect: there are no clients on other hosts.",
        flags=("-H", "--bind"),
        metavar="ADDR",
        parse=values.host,
        idle=True,
    ),
    Option(
        "idle_port",
        _CLUSTER,
        "No effect: there are no clients on other hosts.",
        flags=("-p", "--port"),
        metavar="NUM",
        parse=values.port_or_any,
        idle=True,
    ),
    Option(
        "idle_auth",
        _CLUSTER,
        "No effect: there are no clients on other hosts.",
        flags=("--auth",),
        metavar="KEY",
        parse=values.secret,
        idle=True,
    ),
    Option(
        "idle_advertise",
        _CLUSTER,
        "No effect: there are no clients on other hosts.",
        flags=("--advertise",),
        metavar="NAME",
        parse=values.host,
        idle=True,
        many=True,
    ),
    _switch("no-tls", _CLUSTER, "No effect: there are no clients on other hosts."),
    _path("tls-cert", (*_CLUSTER, *CLIENT, *SUBMIT), "No effect: only servers show a certificate."),
    _path("tls-key", (*_CLUSTER, *CLIENT, *SUBMIT), "No effect: only servers show a certificate."),
    _path("tls-ca", (*_CLUSTER, *SERVER), "No effect: clients show no certificate."),
    Option(
        "idle_queuesize",
        SERVE,
        "No effect: what waits is bounded by memory.",
        metavar="NUM",
        parse=values.whole(0),
        key="server.queuesize",
        default_text="none",
        idle=True,
    ),
    Option(
        "idle_theme",
        (),
        "No effect: JSON and YAML have no colours.",
        metavar="NAME",
        key="console.theme",
        default_text="none",
        idle=True,
    ),
)
