"""The frame of the commands, from outside: texts, streams and exit statuses of real processes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from hypershell import __version__
from hypershell.apps.stdout import checked_stdout

ROOT = str(Path(__file__).parent.parent)

# A command whose work is WORK, in the frame that all commands use.
COMMAND = """
import sys
from hypershell.apps.frame import parse, run_command
from hypershell.errors import InputError, StoreError
def work():
    settings, config = parse("cluster", sys.argv[1:])
    WORK
    return 0
sys.exit(run_command(work))
"""


_CHANGING = ("HYPERSHELL", "NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED")


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_CHANGING)}
    return {**kept, "HYPERSHELL_SITE": str(tmp_path / "site"), "PYTHONPATH": ROOT, **more}


def run(tmp_path: Path, *argv: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path, **more),
        timeout=60,
    )


def hs(tmp_path: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run(tmp_path, "-m", "hypershell", *argv, **more)


def command(tmp_path: Path, work: str, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run(tmp_path, "-c", COMMAND.replace("WORK", work), *argv, **more)


@pytest.mark.parametrize("flag", ["-v", "--version", "--vers"])
def test_version(tmp_path: Path, flag: str) -> None:
    done = hs(tmp_path, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"HyperShell v{__version__} (")
    assert done.stdout.endswith(f"{'.'.join(map(str, sys.version_info[:3]))})\n")


@pytest.mark.parametrize(("flag", "word"), [("-h", "cluster"), ("--help", "initdb"), ("--citation", __version__)])
def test_information_goes_to_stdout(tmp_path: Path, flag: str, word: str) -> None:
    done = hs(tmp_path, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert word in done.stdout
    assert "\033" not in done.stdout


def test_nothing_at_all_is_usage(tmp_path: Path) -> None:
    done = hs(tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("usage: hs ")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("foo", "unrecognized command: foo (see hs --help)"),
        ("clusterr", "unrecognized command: clusterr (did you mean cluster? see hs --help)"),
        ("--foo", "the following arguments are required: command (see hs --help)"),
        ("a b.in", "unrecognized command: a b.in (to run the lines of this file: hs cluster 'a b.in')"),
    ],
)
def test_unknown_commands(tmp_path: Path, word: str, message: str) -> None:
    (tmp_path / "a b.in").touch()
    done = hs(tmp_path, word, "more")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"CRITICAL [hypershell] {message}\n"


@pytest.mark.parametrize("flag", ["--help", "--version", "--citation"])
def test_information_imports_nothing_heavy(tmp_path: Path, flag: str) -> None:
    done = run(tmp_path, "-X", "importtime", "-m", "hypershell", flag)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "hypershell" in loaded
    heavy = {"cmdkit", "sqlalchemy", "rich", "mpi4py", "h5py", "msgspec", "argparse", "logging", "ssl", "tomllib"}
    assert not loaded & heavy


def test_help_of_a_command(tmp_path: Path) -> None:
    done = command(tmp_path, "raise SystemExit(99)", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: hs cluster [-h] [FILE] ")
    assert "\033" not in done.stdout
    assert "\033[36m--eager\033[0m" in command(tmp_path, "pass", "-h", FORCE_COLOR="1").stdout


def test_argument_error_is_the_only_line(tmp_path: Path) -> None:
    done = command(tmp_path, "pass", "--foo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "CRITICAL [hypershell] unrecognized arguments: --foo (see hs cluster --help)\n"


def test_no_arguments_with_stdin_that_is_no_terminal(tmp_path: Path) -> None:
    done = command(tmp_path, "print(settings.file, sys.stdin.read())", stdin="echo 1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "None echo 1\n", "")


def test_no_arguments_with_a_terminal_is_usage(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    try:
        argv = [sys.executable, "-c", COMMAND.replace("WORK", "pass")]
        env = environment(tmp_path)
        done = subprocess.run(argv, stdin=follower, capture_output=True, text=True, env=env, timeout=60)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.startswith("usage: hs cluster ")
        done = subprocess.run(
            [*argv, "--no-db"], stdin=follower, capture_output=True, text=True, env=env, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    finally:
        os.close(leader)
        os.close(follower)


def test_bad_configuration(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[server\n")
    done = command(tmp_path, "pass", "-", HYPERSHELL_CONFIG_FILE="bad.toml")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("CRITICAL [hypershell] bad.toml: not valid TOML: ")
    assert done.stderr.count("\n") == 1
    done = command(tmp_path, "pass", "-", HYPERSHELL_SERVER_BUNDLESIZE="x")
    assert done.returncode == 3
    assert done.stderr == "CRITICAL [hypershell] HYPERSHELL_SERVER_BUNDLESIZE: invalid int value: 'x'\n"


def test_unknown_key_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("[server]\nodd = 1\n")
    done = command(tmp_path, "pass", "-", HYPERSHELL_CONFIG_FILE="odd.toml")
    assert done.returncode == 0
    assert done.stderr == " WARNING [hypershell] odd.toml: unknown key server.odd (ignored)\n"


def test_site_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command(tmp_path, "pass", "-", HYPERSHELL_SITE=str(tmp_path / "file"))
    assert done.returncode == 5
    assert done.stderr.startswith(f"CRITICAL [hypershell] cannot make directory {tmp_path}/file/lib: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("status", [0, 7, 75])
def test_status_of_the_work_is_that_of_the_command(tmp_path: Path, status: int) -> None:
    assert command(tmp_path, f"return {status}", "-").returncode == status


def test_errors_of_ours_are_one_line(tmp_path: Path) -> None:
    done = command(tmp_path, "raise InputError('x.in: it is a directory')", "-")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "CRITICAL [hypershell] x.in: it is a directory\n"
    assert not (tmp_path / "site" / "log").exists()


def test_keyboard_interrupt(tmp_path: Path) -> None:
    done = command(tmp_path, "raise KeyboardInterrupt", "-")
    assert done.returncode == 4
    assert done.stderr == "CRITICAL [hypershell] keyboard-interrupt: stopped\n"


def test_unforeseen_errors_leave_a_traceback_each(tmp_path: Path) -> None:
    for _ in range(2):
        done = command(tmp_path, "open('missing')", "-")
        assert (done.returncode, done.stdout) == (5, "")
        assert "CRITICAL [hypershell] FileNotFoundError: [Errno 2] No such file or directory" in done.stderr
        assert done.stderr.count("\n") == 1
    files = sorted((tmp_path / "site" / "log").glob("exception-*.log"))
    assert len(files) == 2
    assert str(files[0]) in done.stderr or str(files[1]) in done.stderr
    assert "Traceback (most recent call last)" in files[0].read_text()


def test_traceback_that_cannot_be_stored_goes_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "log").write_text("")
    done = command(tmp_path, "1 / 0", "-")
    assert done.returncode == 6
    assert done.stderr.startswith("CRITICAL [hypershell] ZeroDivisionError: division by zero (no traceback file: ")
    assert "Traceback (most recent call last)" in done.stderr


def closed_stdout(tmp_path: Path, work: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose stdout nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        argv = [sys.executable, "-c", COMMAND.replace("WORK", work), "-"]
        return subprocess.run(
            argv, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment(tmp_path), timeout=60
        )
    finally:
        os.close(writer)


def test_closed_stdout_is_silent(tmp_path: Path) -> None:
    done = closed_stdout(tmp_path, "print('x' * 100_000, flush=True)")
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_stdout_does_not_hide_a_status(tmp_path: Path) -> None:
    done = closed_stdout(tmp_path, "print('x'); return 7")
    assert (done.returncode, done.stderr) == (7, "")


def test_other_broken_pipes_are_errors(tmp_path: Path) -> None:
    done = command(tmp_path, "raise BrokenPipeError('peer')", "-")
    assert done.returncode == 5
    assert "BrokenPipeError: peer" in done.stderr


NO_ROOM = "No space left on device; make room, or send it elsewhere"
FULL = f"CRITICAL [hypershell] cannot write to standard output: {NO_ROOM}\n"


def full_stdout(tmp_path: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run with a stdout that takes nothing (full(4))."""
    with open("/dev/full", "w") as full:
        env = environment(tmp_path, **more)
        words = [sys.executable, *argv]
        return subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, env=env, timeout=60)


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["cluster", "-h"], ["list", "--fields"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_stdout_is_one_line(tmp_path: Path, words: list[str], unbuffered: str) -> None:
    done = full_stdout(tmp_path, "-m", "hypershell", *words, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (5, FULL)
    assert not (tmp_path / "site" / "log").exists()


@pytest.mark.parametrize(
    "work", ["print('x')", "print('x' * 100_000)", "print('x', flush=True)", "sys.stdout.write('x'); return 7"]
)
def test_full_stdout_whatever_prints(tmp_path: Path, work: str) -> None:
    done = full_stdout(tmp_path, "-c", COMMAND.replace("WORK", work), "-")
    assert (done.returncode, done.stderr) == (5, FULL)


def test_a_full_stdout_is_not_blamed_for_other_errors(tmp_path: Path) -> None:
    work = "open('/dev/full', 'w').write('x' * 100_000)"
    done = command(tmp_path, work, "-")
    assert done.returncode == 5
    assert "CRITICAL [hypershell] OSError: [Errno 28] No space left on device (traceback: " in done.stderr
    work = "print('x'); raise OSError(28, 'No space left on device', 'y')"
    done = full_stdout(tmp_path, "-c", COMMAND.replace("WORK", work), "-")
    assert done.returncode == 5
    assert "standard output" not in done.stderr and "device: 'y' (traceback: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_stdout_that_is_not_for_writing(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", COMMAND.replace("WORK", "print('x')"), "-"]
    with open(os.devnull) as readable:
        env = environment(tmp_path)
        done = subprocess.run(argv, stdout=readable, stderr=subprocess.PIPE, text=True, env=env, timeout=60)
    assert done.returncode == 5
    text = "CRITICAL [hypershell] cannot write to standard output: Bad file descriptor; send it elsewhere\n"
    assert done.stderr == text


@pytest.mark.parametrize("words", ["list --fields", "list -c", "--help", "list --help"])
def test_no_stdout_at_all_is_silent(tmp_path: Path, words: str) -> None:
    line = f"exec '{sys.executable}' -m hypershell {words} >&-"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_stdout_is_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with checked_stdout():
        assert sys.stdout is not before
        print("inside", end=" ")
    assert sys.stdout is before
    print("outside")
    assert capsys.readouterr().out == "inside outside\n"


def test_stdout_takes_bytes_that_are_not_utf8_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    with checked_stdout():
        print("no tasks in", os.fsdecode(b"caf\xe9"))
    assert capsys.readouterr().out == "no tasks in caf\\xe9\n"


def test_log_file_of_the_configuration(tmp_path: Path) -> None:
    work = "import logging; logging.getLogger('hypershell.server').debug('deep')"
    done = command(tmp_path, work, "-", HYPERSHELL_LOGGING_FILE="true")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "site" / "log" / f"cluster-{os.uname().nodename}.log").read_text().endswith("] deep\n")
