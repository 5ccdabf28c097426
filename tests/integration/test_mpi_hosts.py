"""``hs mpi`` over several hosts of which one is lost; all cases are in the soak (``lost_hosts``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.lost_hosts import Case, lose_host, sick_host
from tests.testbed.mpi import Mpi, each_mpi
from tests.testbed.mpi_hosts import needs_hosts


@needs_hosts()
@each_mpi()
@pytest.mark.parametrize("case", [Case("cut", "h3", False), Case("crash", "h3", False)], ids=["cut", "crash"])
def test_a_host_is_lost(tmp_path: Path, mpi: Mpi, case: Case) -> None:
    if mpi.name == "openmpi" and case.fault == "cut":
        return  # its launcher needs many seconds to end then: in the soak
    lose_host(mpi, tmp_path, case)


@needs_hosts()
@each_mpi()
def test_a_host_that_fails_everything_is_set_aside(tmp_path: Path, mpi: Mpi) -> None:
    sick_host(mpi, tmp_path)
