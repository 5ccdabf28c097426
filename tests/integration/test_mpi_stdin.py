"""Standard input of ``hs mpi``: ``hs mpi -n`` hands it to rank 0 past the launcher, whatever it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest

from hypershell.mpi.input import TERMINAL, VARIABLE, hand_over, take
from tests.testbed.cli import Hs
from tests.testbed.limited import descriptors
from tests.testbed.mpi import Mpi, clean_environ, each_mpi, launch

#: 1 MB of standard input in a few tasks.
LINES = [f"echo {number} # {'x' * 5000}\n" for number in range(210)]


def start(hs: Hs, mpi: Mpi, stdin: int | socket.socket, *args: str) -> subprocess.Popen[str]:
    """``hs mpi -n 2``; Open MPI's own mpirun cannot be trusted with any input."""
    return subprocess.Popen(
        [mpi.python, "-m", "hypershell", "mpi", "-n", "2", *args],
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=clean_environ(hs.environ()), cwd=hs.folder, start_new_session=True,
    )  # fmt: skip


def numbers(text: str) -> list[int]:
    return sorted(map(int, text.split()))


@each_mpi()
def test_a_megabyte_through_a_pipe(hs: Hs, mpi: Mpi) -> None:
    out, err = start(hs, mpi, subprocess.PIPE).communicate("".join(LINES), timeout=90)
    assert (numbers(out), err) == (list(range(len(LINES))), "")
    assert hs.rows("SELECT source FROM submission") == [("stdin",)]


@each_mpi()
def test_a_file_is_read_from_where_the_shell_stands(hs: Hs, mpi: Mpi) -> None:
    fd = os.open(hs.folder / hs.file("".join(LINES).encode()), os.O_RDONLY)
    os.read(fd, len(LINES[0]))
    process = start(hs, mpi, fd)
    os.close(fd)
    out, err = process.communicate(timeout=90)
    assert (numbers(out), err) == (list(range(1, len(LINES))), "")


@each_mpi()
def test_lines_run_as_they_come_and_their_end_is_passed_on(hs: Hs, mpi: Mpi) -> None:
    """What tells rank 0 where they are is nothing for tasks."""
    process = start(hs, mpi, subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    for number in range(3):
        process.stdin.write(f"echo {number}${{HS_MPI_STDIN-}}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{number}\n"
    assert process.communicate(timeout=90) == ("", "")
    assert process.returncode == 0


@each_mpi()
def test_a_socket_too_and_nothing_stays_behind(hs: Hs, mpi: Mpi) -> None:
    """As under ``ssh host hs mpi``. Its end is seen here when nobody holds it any more."""
    ours, theirs = socket.socketpair()
    process = start(hs, mpi, theirs)
    theirs.close()
    with ours:
        ours.sendall("".join(LINES).encode())
        assert process.stdout is not None
        assert numbers("".join(process.stdout.readline() for _ in LINES)) == list(range(len(LINES)))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=90)
        ours.settimeout(60)
        assert ours.recv(1) == b""


@each_mpi(only="mpich")
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_with_few_descriptors_too(hs: Hs, mpi: Mpi, kind: str) -> None:
    """A number as high as we like does not exist then; half of 30 tasks have to wait for room."""
    source, sink = (end.detach() for end in socket.socketpair()) if kind == "socket" else os.pipe()
    words = [mpi.python, "-m", "hypershell", "mpi", "-n", "2", "-N", "30"]
    process = subprocess.Popen(
        descriptors(words, 72, 72), stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=clean_environ(hs.environ()), cwd=hs.folder,
    )  # fmt: skip
    os.close(source)
    with os.fdopen(sink, "w") as lines:
        lines.writelines(f"sleep 0.1; echo {number}\n" for number in range(60))
    out, err = process.communicate(timeout=90)
    assert (process.returncode, numbers(out)) == (0, list(range(60))), err


@each_mpi(seldom="openmpi")
def test_a_fifo_whose_writer_has_gone(hs: Hs, mpi: Mpi) -> None:
    path = hs.folder / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    path.write_text("echo 1\n")
    os.set_blocking(reader, True)
    process = start(hs, mpi, reader)
    os.close(reader)
    assert process.communicate(timeout=90) == ("1\n", "")


@each_mpi(only="mpich")
def test_a_terminal_stays_one(hs: Hs, mpi: Mpi) -> None:
    ours, theirs = os.openpty()
    process = start(hs, mpi, theirs)
    os.close(theirs)
    os.write(ours, b"echo 1\n")
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    os.write(ours, b"\4")
    assert process.communicate(timeout=90) == ("", "")
    assert process.returncode == 0
    os.close(ours)


@each_mpi()
def test_with_a_file_nobody_reads_it(hs: Hs, mpi: Mpi) -> None:
    """``while read file; do hs mpi -n 2 $file; done <list``."""
    fd = os.open(hs.folder / hs.file(["echo 1"]), os.O_RDONLY)
    assert start(hs, mpi, fd, "tasks.in").communicate(timeout=90) == ("1\n", "")
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    os.close(fd)


@each_mpi(only="mpich")
def test_of_a_launcher_is_named_as_a_danger(hs: Hs, mpi: Mpi) -> None:
    done = launch(mpi, 2, ["-m", "hypershell", "mpi"], hs.environ(), cwd=hs.folder, input="echo 1\n")
    assert (done.status, done.stdout) == (0, "1\n")
    assert "MPICH's mpiexec ends the job when its stdin runs more than 64 KiB ahead of rank 0: " in done.stderr
    quiet = launch(mpi, 2, ["-m", "hypershell", "mpi", hs.file(["echo 1"])], hs.environ(), cwd=hs.folder)
    assert (quiet.stdout, quiet.stderr) == ("1\n", "")


@each_mpi()
def test_asked_for_no_rank_launchers_start_what_they_like_and_the_log_says_how_many(hs: Hs, mpi: Mpi) -> None:
    """MPICH one, Open MPI one for each core, of which a machine may have one alone."""
    hs.file([f"echo {number}" for number in range(10)])
    env = {**hs.environ(), "HYPERSHELL_LOGGING_LEVEL": "info"}
    done = launch(mpi, 0, ["-m", "hypershell", "mpi", "tasks.in"], env, cwd=hs.folder)
    assert (done.status, numbers(done.stdout)) == (0, list(range(10))), done.stderr
    [(ranks,)] = hs.rows("SELECT ranks FROM run")
    assert ranks == 1 or mpi.name == "openmpi"
    said = "Running with 1 rank:" if ranks == 1 else f"Running with {ranks} ranks:"
    assert done.stderr.count(said) == 1


# What rank 0 cannot open


@pytest.mark.parametrize(
    "word, reason",
    [
        ("1 90 5 6 0 elsewhere", "standard input is on elsewhere, rank 0 on "),
        ("nonsense", f"variable {VARIABLE} is damaged"),
    ],
)
def test_what_is_not_there_is_named(word: str, reason: str) -> None:
    assert str(take(word)).startswith(reason)


def test_another_file_in_its_place_is_not_taken() -> None:
    with open(os.devnull) as null:
        word = f"{os.getpid()} {null.fileno()} 1 2 0 {os.uname().nodename}"
        assert str(take(word)).startswith("standard input is gone")
    assert "cannot be opened (/proc/" in str(take(word))


def test_the_input_of_a_login_node_stays_the_launchers() -> None:
    before = os.fstat(0)
    environ = {"SLURM_JOB_ID": "1"}
    hand_over(environ)
    assert environ.get(VARIABLE) in (None, TERMINAL)
    assert os.path.samestat(before, os.fstat(0))
    assert take(environ.get(VARIABLE)) is None
