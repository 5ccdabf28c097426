"""Starting processes: what needs a shell, what is inherited, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.executor.oom import Preference
from hypershell.executor.spawn import NotStarted, Spawner, needs_shell, seal_descriptors
from tests.test_executor_rig import run_tasks


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner(dict(os.environb))
    yield spawner
    spawner.close()


def output_of(spawner: Spawner, command: bytes, environ: dict[bytes, bytes] | None = None) -> tuple[int, bytes]:
    """Exit status and what a command prints on both outputs."""
    read, write = os.pipe()
    try:
        pid = spawner.start(command, dict(os.environb) if environ is None else environ, write, write)
    finally:
        os.close(write)
    with open(read, "rb") as reader:
        text = reader.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has oom_score_adj")
def test_the_kernel_ends_a_task_before_us(spawner: Spawner) -> None:
    ours = Path("/proc/self/oom_score_adj").read_text()
    for command in (b"cat /proc/self/oom_score_adj", b"read x </proc/self/oom_score_adj; echo $x; exit 0"):
        assert int(output_of(spawner, command)[1]) == min(1000, int(ours) + 500)
        assert Path("/proc/self/oom_score_adj").read_text() == ours


def test_a_preference_that_cannot_be_told_is_none(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("none\n")
    for path in (tmp_path / "absent", tmp_path / "words", tmp_path):
        preference = Preference(str(path))
        preference.of_task()
        preference.of_client()
        preference.close()
    assert (tmp_path / "words").read_text() == "none\n"


@pytest.mark.parametrize(
    "command",
    [b"/bin/echo x", b"ls -l", b"dd if=a of=b", b"\tdate  +%s ", b"./a.out 1,2 x:y @z", b"a%b", b"python3 -c pass"],
)
def test_plain_commands_need_no_shell(command: bytes) -> None:
    assert not needs_shell(command)


@pytest.mark.parametrize(
    "command",
    [
        *(b"", b"  ", b"a;b", b"a|b", b"a>b", b"a&", b"a$b", b"a`b", b"a'b", b'a"b', b"a\\b", b"a*", b"a?", b"[a]"),
        *(b"~/x", b"a#b", b"(a)", b"{a}", b"!a", b"a\nb", b"a\xc3\xa9", b"a\0", b"a^b", b"a<b"),
        *(b"A=1 env", b"echo x", b"exit 3", b"if", b". x", b": x", b"time x", b"exec x", b"cd /", b"%1"),
    ],
)
def test_what_a_shell_gives_a_meaning_to_needs_one(command: bytes) -> None:
    assert needs_shell(command)


def test_exported_functions_need_a_shell() -> None:
    assert not needs_shell(b"mytool x")
    assert needs_shell(b"mytool x", frozenset({b"mytool"}))
    function = {b"BASH_FUNC_mytool%%": b"() { :; }", b"BASH_FUNC_old()": b"() { :; }"}
    spawner = Spawner({**os.environb, **function})
    assert spawner.functions == {b"mytool", b"old"}
    spawner.close()


@given(st.text("abc019_@%+:,./=- \t", max_size=30).map(str.encode))
def test_a_command_without_a_shell_gets_the_words_that_a_shell_would_give(rest: bytes) -> None:
    command = b"/usr/bin/printf [%s] " + rest
    plain = b"/usr/bin/printf @%s@ " + rest
    assert not needs_shell(plain)
    shell = subprocess.run([b"/bin/sh", b"-c", plain], capture_output=True).stdout
    direct = subprocess.run(plain.split(), capture_output=True).stdout
    assert direct == shell
    assert needs_shell(command)


def test_a_failed_start_without_a_shell_is_told_by_the_shell(spawner: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo ran $1\n")
    script.chmod(0o755)
    # No interpreter line: execve(2) refuses, a shell reads it as a script.
    assert output_of(spawner, f"{script} x".encode()) == (0, b"ran x\n")
    script.chmod(0o644)
    assert output_of(spawner, str(script).encode())[0] == 126
    assert output_of(spawner, str(tmp_path / "none").encode())[0] == 127


def test_programs_are_looked_up_in_the_path_of_the_task(tmp_path: Path) -> None:
    program = tmp_path / "my-own-program"
    program.write_text("#!/bin/sh\necho mine\n")
    program.chmod(0o755)
    path = b"%b:/usr/bin:/bin" % bytes(tmp_path)
    server = run_tasks(["my-own-program", "my-own-program;"], exports={b"PATH": path})
    assert server.out == b"mine\nmine\n"


def test_a_program_made_by_an_earlier_task_is_found(tmp_path: Path) -> None:
    lines: list[str | bytes] = [
        "new-program",
        f"printf '#!/bin/sh\\necho new' >{tmp_path}/new-program; chmod +x {tmp_path}/new-program",
        "new-program",
    ]
    server = run_tasks(lines, slots=1, exports={b"PATH": b"%b:/usr/bin:/bin" % bytes(tmp_path)})
    assert server.statuses == [127, 0, 0]
    assert server.out == b"new\n"


def test_too_long_and_nul_are_refused(spawner: Spawner) -> None:
    with pytest.raises(NotStarted, match="131,072 bytes"):
        spawner.start(b"x" * 131_072, {}, 1, 2)
    with pytest.raises(NotStarted, match="NUL"):
        spawner.start(b"x\0y", {}, 1, 2)


def test_a_variable_too_long_for_the_kernel_is_no_crash(spawner: Spawner) -> None:
    with pytest.raises(NotStarted, match="list too long"):
        spawner.start(b"/bin/true", {b"X": b"x" * 200_000}, 1, 2)


def test_our_own_working_directory_stays(spawner: Spawner, tmp_path: Path) -> None:
    here = os.getcwd()
    with pytest.raises(NotStarted, match="none"):
        spawner.start(b"true", {}, 1, 2, str(tmp_path / "none"))
    pid = spawner.start(b"exit 5", {}, 1, 2, str(tmp_path))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert os.getcwd() == here


def test_descriptors_are_sealed() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(fd, True)
    assert seal_descriptors() >= 1
    assert not os.get_inheritable(fd)
    assert os.get_inheritable(1)
    os.close(fd)
