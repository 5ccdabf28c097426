"""``hs status``: how a server that runs stands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypershell.errors import ExitStatus, TransportError
from hypershell.ostext import one_line
from hypershell.units import format_duration

if TYPE_CHECKING:
    from hypershell.proto.visits import ClientStatus, Status

__all__ = ["main", "to_lines"]

#: Seconds that the server has to answer.
_PATIENCE = 30.0


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _status(argv))


def _status(argv: list[str]) -> int:
    from hypershell.apps.dial import ask
    from hypershell.apps.parse_net import parse_status
    from hypershell.proto.session import STATUS
    from hypershell.proto.visits import Ask, Told, decode_answer

    as_json, dial, config = parse_status(argv)
    with ask(dial, config, STATUS, decode_answer) as asking:
        asking.send(Ask())
        answer = asking.receive(_PATIENCE)
    if not isinstance(answer, Told):
        raise TransportError(f"the server did not say how it stands within {_PATIENCE:.0f} seconds")
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(answer.status), indent=4).decode())
    else:
        print(*to_lines(answer.status), sep="\n")
    return ExitStatus.SUCCESS


def to_lines(status: Status) -> list[str]:
    """The status for people."""
    tasks = status.tasks
    counted = ", ".join(f"{count} {state}" for state, count in tasks.items())
    lines = [
        f"server:   {status.host} (pid {status.pid}, {status.transport}, version {status.version})",
        f"run:      {status.run}, {status.state} for {format_duration(status.now - status.started)}",
        *([] if status.ends is None else [f"ends:     in {format_duration(max(0.0, status.ends - status.now))}"]),
        f"database: {status.database}",
        f"tasks:    {counted}{'' if status.complete else ' (the input is not read to its end)'}",
        f"rate:     {status.rate:.1f} tasks/s"
        + (f", done in {format_duration(status.eta)}" if status.eta is not None and status.eta > 0 else ""),
        f"group:    {'none yet' if status.group is None else status.group}",
        f"release:  {status.release}",
        f"clients:  {len(status.clients)} with {sum(one.slots for one in status.clients)} slots",
    ]
    if status.aside:
        lines.append(f"aside:    {', '.join(status.aside)} (all that ran there failed at once)")
    if status.lost is not None:
        lines.append(f"lost:     {status.lost}")
    if status.late:
        lines.append(f"late:     {status.late} results of executions that were given up; they were not applied")
    if status.clients:
        lines += _table(status.clients, status.now)
    return list(map(one_line, lines))


def _table(clients: list[ClientStatus], now: float) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("host", "id", "system", "slots", "load", "here for", "last heard of", "state", "labels")
    ]
    for one in clients:
        load = f"{min(one.held, one.slots) / one.slots:.0%}" if one.slots else "-"
        heard = "-" if one.silent is None else f"{format_duration(one.silent)} ago"
        here = format_duration(max(0.0, now - one.since))
        last = (one.state, " ".join(one.labels))
        row = (one.host, one.id[:13], one.system, str(one.slots), load, here, heard, *last)
        rows.append(tuple(map(one_line, row)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return ["", *_fitting(lines)]


def _fitting(lines: list[str]) -> list[str]:
    """Lines as a terminal can show them."""
    if not sys.stdout.isatty():
        return lines
    import shutil

    columns = shutil.get_terminal_size().columns
    return [line[:columns] for line in lines]
