"""What the end of a run says about ranks that were lost."""

from __future__ import annotations

import pytest

from hypershell.apps.status import to_lines
from hypershell.core.clients import Client
from hypershell.core.model import ClientInfo, Task
from hypershell.core.nodes import Node
from hypershell.proto.visits import Status
from hypershell.server.losses import MOST_HOSTS, Losses, in_words, set_aside_line


def client(rank: int, host: str = "h1", held: int = 0) -> Client:
    one = Client(rank, ClientInfo(f"c{rank}", host, 1, 1, "0", "linux", rank))
    one.holding = {f"t{number}": Task(f"t{number}", "x", 1) for number in range(held)}
    return one


@pytest.mark.parametrize(
    ("ranks", "words"),
    [([3], "rank 3"), ([2, 1], "ranks 1-2"), ([1, 2, 3, 4, 9], "ranks 1-4, 9"), ([5, 5], "rank 5")],
)
def test_ranks_in_words(ranks: list[int], words: str) -> None:
    assert in_words(ranks) == words


def test_nothing_was_lost() -> None:
    assert Losses().line() is None


def test_ranks_hosts_and_tasks_are_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    losses = Losses()
    losses.note(4, client(4, "h2", held=1), "rank 4 died")
    losses.note(1, client(1, held=2), "nothing was heard of rank 1 for 600 s")
    losses.note(2, client(2), "rank 2 died")
    assert losses.line() == "3 ranks were lost with 3 tasks, which were taken back: ranks 1-2 on h1; rank 4 on h2"
    assert caplog.messages == [
        "Lost a client on h2: rank 4 died; its task goes to others",
        "Lost a client on h1: nothing was heard of rank 1 for 600 s; its 2 tasks go to others",
        "Lost a client on h1: rank 2 died",
    ]


def test_one_task_of_one_rank() -> None:
    losses = Losses()
    losses.note(4, client(4, held=1), "rank 4 died")
    assert losses.line() == "1 rank was lost with 1 task, which was taken back: rank 4 on h1"


def test_others_than_ranks_come_back_and_are_not_counted() -> None:
    losses = Losses()
    losses.note(7, client(-1), "cut")
    losses.note(8, None, "rank 8 died")
    assert losses.line() is None


def test_many_hosts_are_not_all_named() -> None:
    losses = Losses()
    for number in range(MOST_HOSTS + 3):
        losses.note(number, client(number, f"h{number:02}"), "died")
    line = losses.line()
    assert line is not None and line.endswith("rank 7 on h07; and on 3 more hosts")


def node(host: str, clients: int) -> Node:
    one = Node(host)
    one.clients = clients
    return one


def test_nobody_was_set_aside() -> None:
    assert set_aside_line([], []) is None


def test_hosts_and_single_clients_that_were_set_aside_are_named() -> None:
    assert set_aside_line([node("h1", 4)], [client(9, "h2")]) == (
        "set aside, for all that ran there failed at once: node h1 (4 clients), client c9 on h2"
    )


def test_many_that_were_set_aside_are_not_all_named() -> None:
    line = set_aside_line([node(f"h{number}", 2) for number in range(MOST_HOSTS + 1)], [])
    assert line is not None and line.endswith("node h7 (2 clients), and 1 more")


def test_the_status_shows_both() -> None:
    tasks = dict.fromkeys(("pending", "dispatched", "succeeded", "failed", "cancelled"), 0)
    status = Status(
        "run", "h0", 1, "0", "mpi", 0.0, 10.0, "running", tasks, True, 0.0, None, 0, "all at once", "none", [],
        ["h1", "h2"], "1 rank was lost", 0, 75.0,
    )  # fmt: skip
    lines = to_lines(status)
    assert "ends:     in 0:01:05" in lines
    assert "aside:    h1, h2 (all that ran there failed at once)" in lines
    assert "lost:     1 rank was lost" in lines
