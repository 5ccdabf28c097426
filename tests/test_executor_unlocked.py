"""Starting processes without the interpreter lock: the same as ``os.posix_spawn``, and its place where it fails."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypershell.executor.spawn import NotStarted, Spawner
from hypershell.executor.unlocked import unlocked

SHARED = {**os.environb, b"SHARED": b"yes", b"BOTH": b"shared"}


@pytest.fixture(params=[False, True], ids=["plain", "unlocked"])
def spawner(request: pytest.FixtureRequest) -> Iterator[Spawner]:
    made = Spawner(SHARED, threads=request.param)
    yield made
    made.close()


def run(
    spawner: Spawner, command: bytes, cwd: str | None = None, own: dict[bytes, bytes] | None = None
) -> tuple[int, bytes]:
    """Exit status and output."""
    read, write = os.pipe()
    try:
        pid = spawner.start(command, SHARED, write, write, cwd, own or {})
    finally:
        os.close(write)
    with open(read, "rb") as pipe:
        output = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


def test_own_variables_go_before_the_shared_ones_and_do_not_stay(spawner: Spawner) -> None:
    show = b"echo $SHARED $BOTH ${MINE-none}; env | grep -c ^BOTH="
    assert run(spawner, show, own={b"BOTH": b"own", b"MINE": b"x y"}) == (0, b"yes own x y\n1\n")
    assert run(spawner, show) == (0, b"yes shared none\n1\n")
    assert run(spawner, show, own={b"MINE": b"\xff"}) == (0, b"yes shared \xff\n1\n")


def test_as_many_variables_as_there_are(spawner: Spawner) -> None:
    for count in (3, 64, 65, 1000):
        own = {b"VAR_%d" % number: b"%d" % number for number in range(count)}
        assert run(spawner, b"env | grep -c ^VAR_", own=own) == (0, b"%d\n" % count)


def test_other_shared_variables_are_not_mixed_up(spawner: Spawner) -> None:
    for number in range(600):
        other = {b"NUMBER": b"%d" % number, b"PATH": b"/bin:/usr/bin"}
        read, write = os.pipe()
        pid = spawner.start(b"echo $NUMBER >&2", other, 1, write)
        os.close(write)
        os.waitpid(pid, 0)
        assert os.read(read, 100) == b"%d\n" % number
        os.close(read)


def test_another_directory(spawner: Spawner, tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    here = os.getcwd()
    assert run(spawner, b"pwd; :", str(folder)) == (0, os.fsencode(folder) + b"\n")
    assert run(spawner, b"/bin/pwd -P", str(folder)) == (0, os.fsencode(folder.resolve()) + b"\n")
    assert os.getcwd() == here
    for missing in ("/nonexistent/folder", "/etc/passwd"):
        with pytest.raises(NotStarted, match=f"cannot enter the working directory {missing}"):
            run(spawner, b"pwd", missing)


def test_what_cannot_be_executed_is_told_by_the_shell(spawner: Spawner, tmp_path: Path) -> None:
    assert run(spawner, b"/nonexistent/program")[0] == 127
    assert run(spawner, b"/etc/passwd")[0] == 126
    script = tmp_path / "script"
    script.write_text("echo no first line")
    script.chmod(0o755)
    assert run(spawner, os.fsencode(script)) == (0, b"no first line\n")


def test_a_process_has_its_own_group_and_no_signal_of_ours(spawner: Spawner) -> None:
    script = b"grep -E '^Sig(Blk|Ign)' /proc/self/status; ps -o pgid= -p $$; echo $$"
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        status, output = run(spawner, script)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    blocked, ignored, group, pid = output.split(b"\n")[:-1]
    assert status == 0 and group.strip() == pid
    assert int(blocked.split()[1], 16) == 0
    own_of_libc = 3 << 31  # signals 32 and 33 of glibc
    assert int(ignored.split()[1], 16) & ~own_of_libc == 0


def test_the_environment_may_be_too_large(spawner: Spawner) -> None:
    with pytest.raises(NotStarted, match="cannot start a process"):
        run(spawner, b"true; true", own={b"LONG": b"x" * 200_000})
    assert run(spawner, b"echo ok; :") == (0, b"ok\n")


def test_it_is_used_where_it_can_be() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    assert (unlocked(null, (int(signal.SIGPIPE),)) is not None) == (sys.platform == "linux")
    os.close(null)
