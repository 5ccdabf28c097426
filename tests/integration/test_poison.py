"""One line that kills whoever runs it costs three deaths, and not the run."""

from __future__ import annotations

from tests.integration.test_net import client, ended, server
from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, each_mpi, finish, start

#: Kills the client that runs it.
KILLER = "kill -9 $PPID; sleep 1000"
ORDINARY = 20
#: Ranks but the first: more than the killer may take.
WORKERS = 5
#: Starts after which a run that is repeated has no excuse.
STARTS = 6


def tasks(hs: Hs, before: int) -> str:
    """The killer and 20 others, so many of them `before` it."""
    lines = [f"echo {number}" for number in range(ORDINARY)]
    return hs.file([*lines[:before], KILLER, *lines[before:]])


def the_end(hs: Hs, deaths: int = 3) -> None:
    """The killer failed with its reason after so many deaths, the others ran well."""
    reason = f"its client died {deaths} times while it ran (--poison {deaths})"
    query = "SELECT state, exit_status, error, attempt, next_id FROM task WHERE args LIKE 'kill%'"
    assert hs.rows(query) == [("failed", -104, reason, 1, None)]
    assert hs.states() == {"succeeded": ORDINARY, "failed": 1}
    assert hs.rows("SELECT count(*) FROM task WHERE state = 'succeeded' AND error IS NOT NULL") == [(0,)]


def deaths_and_ends(hs: Hs) -> tuple[int, int]:
    """What each start must make more of: deaths that were written down, and tasks that have ended."""
    found = hs.rows("SELECT error, execution, state FROM task")
    return (
        sum(row[1] for row in found),
        sum(row[2] == "succeeded" for row in found),
    )


def test_a_process_that_its_task_kills(hs: Hs) -> None:
    name = tasks(hs, 0)
    statuses = [hs.run("cluster", name, "-N2", "--restart", "-r5", *more).status
                for more in (["--poison", "4"], [], [], [], [])]  # fmt: skip
    assert statuses == [-9, -9, -9, -9, 7]
    the_end(hs, deaths=4)


def test_never_is_never(hs: Hs) -> None:
    name = tasks(hs, ORDINARY)
    hs.run("cluster", name, "-N2", "--restart", "--poison", "0")
    for _ in range(4):
        assert hs.run("cluster", name, "-N2", "--restart").status == -9
    assert hs.rows("SELECT count(*) FROM task WHERE state = 'failed'") == [(0,)]


def test_clients_over_the_network(hs: Hs) -> None:
    with server(hs, tasks(hs, 5), "--poison", "3", "-b1") as process:
        clients = [client(hs, "-N2") for _ in range(4)]
        done = ended(process)
        ends = sorted(ended(one).status for one in clients)
    assert (done.status, ends) == (7, [-9, -9, -9, 0]), done.err
    the_end(hs)


@each_mpi()
def test_a_job_that_dies_with_one_of_its_ranks_comes_to_its_end(hs: Hs, mpi: Mpi) -> None:
    name = tasks(hs, ORDINARY // 2)
    env = {"HYPERSHELL_SITE": str(hs.site)}
    words = ["-m", "hypershell", "mpi", name, "--restart", "-b1"]
    before = (0, 0)
    for _ in range(STARTS):
        done = finish(start(mpi, 4, words, env, cwd=hs.folder))
        if done.status == 7:
            break
        after = deaths_and_ends(hs)
        assert after > before, done.stderr
        before = after
    assert done.status == 7, done.stderr
    the_end(hs)


@each_mpi(only="openmpi")
def test_ulfm_the_run_goes_on_without_three_ranks(hs: Hs, mpi: Mpi) -> None:
    env = {"HYPERSHELL_SITE": str(hs.site)}
    words = ["-m", "hypershell", "mpi", tasks(hs, ORDINARY // 2), "-b1"]
    done = finish(start(mpi, WORKERS + 1, words, env, cwd=hs.folder, survive=True))
    assert done.status == 7, done.stderr
    assert "hs: 3 ranks were lost" in done.stderr
    the_end(hs)
