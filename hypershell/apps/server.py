"""``hs server [FILE]``: schedules tasks for clients that come over the network, and executes none."""

from __future__ import annotations

import os

from hypershell.hosts import host_name

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _server(argv))


def _server(argv: list[str]) -> int:
    from hypershell import reactor
    from hypershell.apps.door import open_door
    from hypershell.apps.parse_net import parse_server
    from hypershell.limits import ENOUGH, raise_descriptors, require_descriptors
    from hypershell.mpi.environ import job_id
    from hypershell.server.feed import check_file
    from hypershell.server.run import Place, Run

    raise_descriptors()
    require_descriptors(ENOUGH)
    settings, door, config = parse_server(argv)
    if settings.file is not None:
        check_file(settings.file)
    poller = reactor.Poller()
    with open_door(poller, door, config) as way_in:
        place = Place("tcp", 1, 0, 0, host_name(), job_id(os.environ), is_open=True)
        run = Run(poller, way_in.listener, settings, place, ["server", *argv])
        run.receive(way_in.listener)
        run.start()
        return run.turns()
