"""``-R``: how many tasks a client starts per second, as its tasks see it."""

from __future__ import annotations

import itertools

import pytest

from tests.integration.test_net import client, ended, server
from tests.testbed.cli import Hs

_LINE = "date +%s.%N"


def _are_apart(out: str) -> None:
    times = sorted(map(float, out.split()))
    assert len(times) == 4
    # Those of /bin/date itself may differ by what the processes take to begin; all four cannot be closer together.
    assert times[-1] - times[0] >= 3 * 0.2 - 0.15, list(itertools.pairwise(times))


@pytest.mark.parametrize("how", [("-R", "5"), ("-R5",)])
def test_a_cluster_starts_tasks_at_the_rate(hs: Hs, how: tuple[str, ...]) -> None:
    done = hs.run("cluster", hs.file([_LINE] * 4), "-N4", *how)
    assert (done.status, done.err) == (0, "")
    _are_apart(done.out)


def test_a_client_has_a_rate_of_its_own(hs: Hs) -> None:
    hs.file([_LINE] * 4)
    with server(hs, "tasks.in") as process:
        done = ended(client(hs, "-N4", "-R", "5"))
        assert (done.status, ended(process).status) == (0, 0)
    _are_apart(done.out)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "fast"])
def test_a_rate_is_a_positive_number(hs: Hs, value: str) -> None:
    done = hs.run("cluster", hs.file([_LINE]), "-R", value)
    assert done.status == 2 and "-R/--ratelimit" in done.err


def test_no_rate_in_a_file_is_no_limit(hs: Hs) -> None:
    done = hs.run("cluster", hs.file(["echo a", "echo b"]), env={"HYPERSHELL_CLIENT_RATELIMIT": "0"})
    assert (done.status, sorted(done.out.split())) == (0, ["a", "b"])
