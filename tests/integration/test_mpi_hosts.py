"""``hs mpi`` over several hosts of which one is lost; all cases are in the soak (``lost_hosts``)."""

from __future__ import annotations

from pathlib import Path

from tests.integration.lost_hosts import Case, lose_host, sick_host
from tests.testbed.mpi import Mpi, each_mpi
from tests.testbed.mpi_hosts import needs_hosts


@needs_hosts()
@each_mpi(only="mpich")  # Open MPI's launcher needs many seconds to end then: in the soak
def test_a_host_is_cut_off(tmp_path: Path, mpi: Mpi) -> None:
    lose_host(mpi, tmp_path, Case("cut", "h3", survive=False))


@needs_hosts()
@each_mpi()
def test_a_host_crashes(tmp_path: Path, mpi: Mpi) -> None:
    lose_host(mpi, tmp_path, Case("crash", "h3", survive=False))


@needs_hosts()
@each_mpi()
def test_a_host_that_fails_everything_is_set_aside(tmp_path: Path, mpi: Mpi) -> None:
    sick_host(mpi, tmp_path)
