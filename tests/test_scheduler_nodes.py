"""Hosts at which everything fails at once, whichever of their clients runs it; one test a story."""

from __future__ import annotations

from hypershell.core import events as ev
from hypershell.core.model import ClientInfo
from tests.sim.trace import Run
from tests.test_scheduler_quarantine import fail, held, names

NO_MORE = (
    "warning: Node h1 gets no more tasks: the last 6 of its 3 clients failed within a second each; others take over"
)


def join(run: Run, client: int, host: str) -> list[str]:
    info = ClientInfo(f"c{client}", host, client, 1, "0", "linux", client)
    return run.tell(ev.ClientJoined(client, info))


def two_hosts(tasks: int = 40, **policy: object) -> Run:
    """Clients 1 to 3 on h1, 4 to 6 on h2; six failures are enough."""
    run = Run(**{"quarantine": 6, "bundlesize": 1, "closed": False} | policy)
    run.submit(names(tasks))
    for client in range(1, 7):
        join(run, client, "h1" if client < 4 else "h2")
    return run


def fail_in_turn(run: Run, clients: list[int], times: int) -> list[str]:
    lines: list[str] = []
    for number in range(times):
        lines += fail(run, clients[number % len(clients)], 1)
    return lines


def aside(run: Run) -> tuple[list[str], list[int]]:
    nodes, clients = run.scheduler.set_aside()
    return [node.host for node in nodes], [client.number for client in clients]


def test_a_host_that_fails_everything_at_once_gets_no_more() -> None:
    run = two_hosts()
    told = fail_in_turn(run, [1, 2, 3], 6)
    assert [line for line in told if line.startswith("warning")] == [NO_MORE]
    assert aside(run) == (["h1"], [])
    # What its clients still had goes back, spends no attempt, and others get it.
    left = [*held(run, 1), *held(run, 2), *held(run, 3)]
    assert left
    for client in (1, 2, 3):
        while held(run, client):
            assert "back" in fail(run, client, 1)[0]
    assert run.scheduler.counts.failed == 6
    run.feed_ended()
    while any(held(run, client) for client in (4, 5, 6)):
        for client in (4, 5, 6):
            if held(run, client):
                run.end(client, held(run, client)[0])
    assert run.durable()[-1] == "finish complete: 34 good, 6 bad, 0 held, 0 left"


def test_one_bad_client_is_not_its_host() -> None:
    run = two_hosts()
    told = fail_in_turn(run, [1], 6)
    assert not any("Node" in line for line in told)
    assert aside(run) == ([], [1])


def test_a_result_of_another_kind_on_the_host_begins_the_count_anew() -> None:
    run = two_hosts()
    fail_in_turn(run, [1, 2, 3], 5)
    run.end(3, held(run, 3)[0], 1, 5.0)  # it took its time
    assert not any("Node" in line for line in fail_in_turn(run, [1, 2, 3], 5))
    assert aside(run) == ([], [])


def test_a_host_with_a_success_is_asked_for_five_times_as_many() -> None:
    run = two_hosts(100)
    run.end(1, held(run, 1)[0])
    assert not any("Node" in line for line in fail_in_turn(run, [1, 2, 3], 14))


def test_both_hosts_fail_alike_it_is_the_tasks() -> None:
    run = two_hosts()
    told = fail_in_turn(run, [1, 4, 2, 5, 3, 6], 24)
    assert not any("gets no more" in line for line in told)


def test_when_tasks_fail_elsewhere_too_the_host_gets_work_again() -> None:
    run = two_hosts()
    fail_in_turn(run, [1, 2, 3], 6)
    told = fail_in_turn(run, [4, 5, 6], 6)
    assert [line for line in told if "again" in line] == [
        "info: Node h1 gets tasks again: tasks of others fail so too"
    ]
    assert aside(run) == ([], []) and held(run, 1)


def test_a_success_of_what_it_still_had_absolves_the_host() -> None:
    run = two_hosts(bundlesize=3)
    fail_in_turn(run, [1, 2, 3], 6)
    assert aside(run)[0] == ["h1"]
    told = run.end(2, held(run, 2)[0])
    assert "info: Node h1 gets tasks again: a task succeeded there" in told
    assert aside(run) == ([], []) and held(run, 1) and held(run, 3)


def test_when_the_others_leave_the_run_goes_on_with_the_host() -> None:
    run = two_hosts()
    fail_in_turn(run, [1, 2, 3], 6)
    run.lose(4)
    run.lose(5)
    assert "info: Node h1 gets tasks again: nobody else is here" in run.lose(6)
    assert held(run, 1) and held(run, 3)


def test_a_newcomer_on_such_a_host_gets_nothing_either() -> None:
    run = two_hosts()
    fail_in_turn(run, [1, 2, 3], 6)
    join(run, 7, "h1")
    assert held(run, 7) == []
    told = fail_in_turn(run, [4, 5, 6], 6)
    assert "info: Node h1 gets tasks again: tasks of others fail so too" in told
    assert held(run, 7)


def test_a_host_whose_clients_are_gone_is_forgotten() -> None:
    run = two_hosts()
    fail_in_turn(run, [1, 2, 3], 6)
    for client in (1, 2, 3):
        run.lose(client)
    assert aside(run) == ([], [])
    join(run, 8, "h1")
    assert held(run, 8)
