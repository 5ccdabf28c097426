"""The client from message to process and back: real processes over a loopback."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hypershell.core.model import Special
from hypershell.proto import messages
from hypershell.transport import Lost
from tests.test_executor_rig import make_tasks, rig, run_tasks


def gone(pid: int) -> bool:
    """Whether the process has ended, or does so within ten seconds (pidfd_open(2))."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], 10)[0])
    finally:
        os.close(watch)


def wait_for_end_of(fifo: Path) -> None:
    """Return when no process holds the writing end any more."""
    with fifo.open("rb") as reader:
        while reader.read(4096):
            pass


def test_tasks_run_and_report_their_exit_statuses() -> None:
    server = run_tasks(["true", "exit 3", "echo out; echo err >&2", "kill -9 $$", "kill -HUP $$", "kill -INT $$"])
    assert server.statuses == [0, 3, 0, -9, -1, -2]
    assert (server.out, server.err) == (b"out\n", b"err\n")


def test_the_result_tells_times_and_resources() -> None:
    before = time.time()
    result = run_tasks(["head -c 1000000 /dev/zero | tr a b >/dev/null"]).result()
    assert before <= result.start <= result.end <= time.time()
    assert result.utime is not None and result.utime >= 0
    assert result.stime is not None and result.utime + result.stime > 0
    assert result.maxrss is not None and result.maxrss > 100_000


def test_the_client_introduces_itself() -> None:
    server = run_tasks([])
    assert server.info is not None
    assert (server.info.host, server.info.slots, server.info.pid) == ("client-host", 2, os.getpid())


def test_messages_of_a_shell_are_its_own() -> None:
    def shell(line: str) -> tuple[int, bytes]:
        import subprocess

        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True)
        return done.returncode, done.stderr

    for line in ("no-such-program", "/", "/etc/passwd", "./none/such", "no-such-program a b"):
        server = run_tasks([line])
        assert (server.result().exit_status, server.err) == shell(line)


def test_stdin_is_empty() -> None:
    server = run_tasks(["cat; echo end", "/usr/bin/wc -c"])
    assert sorted(server.out.split()) == [b"0", b"end"]


def test_a_task_sees_three_descriptors() -> None:
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        server = run_tasks(["ls /proc/self/fd", "/bin/ls /proc/self/fd"], slots=1)
    finally:
        os.close(leaked)
    # The fourth is the one by which ls reads the folder.
    assert server.out == b"0\n1\n2\n3\n" * 2


def test_each_task_leads_its_own_process_group() -> None:
    server = run_tasks(["ps -o pgid= -p $$; echo $$"])
    group, pid = server.out.split()
    assert group == pid


def test_ignored_signals_are_reset_for_tasks() -> None:
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = run_tasks(["grep -E 'Sig(Ign|Blk)' /proc/self/status"])
    finally:
        signal.signal(signal.SIGINT, old)
    blocked, ignored = (int(line.split()[1], 16) for line in server.out.splitlines())
    # The C library keeps 32 and 33 for its threads, and ignores them in what it starts.
    assert (blocked, ignored & ~(0b11 << 31)) == (0, 0)


def test_bytes_that_are_not_utf8_reach_the_command() -> None:
    server = run_tasks([b"printf '%s\\n' '\xff\xfe' \"$TASK_ARGS\" # \xfd"])
    assert server.out == b"\xff\xfe\nprintf '%s\\n' '\xff\xfe' \"$TASK_ARGS\" # \xfd\n"


def test_the_working_directory_is_that_of_the_submission(tmp_path: Path) -> None:
    server = run_tasks(["pwd", "/bin/pwd", 'echo "$PWD" "$TASK_CWD"'], cwd=str(tmp_path), slots=1)
    here = str(tmp_path).encode()
    assert server.out == here + b"\n" + here + b"\n" + here + b" " + here + b"\n"
    assert os.getcwd() != str(tmp_path)


def test_task_cwd_overrides_it(tmp_path: Path) -> None:
    assert run_tasks(["pwd"], task_cwd=bytes(tmp_path)).out == str(tmp_path).encode() + b"\n"


def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    result = run_tasks(["pwd"], cwd=str(tmp_path / "none")).result()
    assert result.exit_status == Special.NOT_STARTED
    assert result.error is not None and str(tmp_path / "none") in result.error


@pytest.mark.parametrize("line", ["echo a\0b", "echo " + "x" * 131_067])
def test_what_cannot_be_a_command_is_a_named_failure(line: str) -> None:
    server = run_tasks([line, "echo fine"])
    assert server.statuses == [Special.NOT_STARTED, 0]
    error = server.result().error
    assert error is not None and ("NUL" in error or "131,072 bytes" in error)
    assert server.out == b"fine\n"


def test_the_longest_command_runs() -> None:
    line = "echo " + "x" * 131_066
    server = run_tasks([line, "echo ${TASK_ARGS-none} ${#TASK_COMMAND}"])
    assert server.statuses == [0, 0]
    assert server.out.startswith(b"x" * 1000) or server.out.endswith(b"x" * 1000 + b"\n")


def test_many_failures_to_start_do_not_pile_up() -> None:
    server = run_tasks(["\0"] * 3000)
    assert set(server.statuses) == {Special.NOT_STARTED}


# Output


def test_lines_of_different_tasks_do_not_tear() -> None:
    line = "x" * 3000
    body = f"for i in 1 2 3 4 5 6 7 8 9; do printf %s {line}; printf '%s\\n' {line}; done"
    server = run_tasks([body] * 8, slots=4)
    assert server.out.splitlines() == [b"x" * 6000] * 72


def test_a_long_line_passes_whole_in_the_end() -> None:
    server = run_tasks(["head -c 300000 /dev/zero | tr '\\0' x; echo"])
    assert server.out == b"x" * 300_000 + b"\n"


def test_a_last_line_without_newline_stays_as_it_is() -> None:
    assert run_tasks(["printf a; printf b >&2"]).out == b"a"


def test_output_waits_for_the_server_to_take_it() -> None:
    with rig(["head -c 8000000 /dev/zero; echo done >&2"]) as both:
        both.server.takes_output = False
        both.run(until=lambda: len(both.server.out) >= 1_048_576)
        both.executor.turn(time.monotonic())
        # What is on its way is bounded by the window, one read and one unfinished line.
        assert len(both.server.out) <= 1_048_576 + 2 * 65_536
        assert not both.server.results
        both.server.takes_output = True
        both.server.send(messages.OutputTaken(len(both.server.out)))
        both.run()
    assert len(both.server.out) == 8_000_000
    assert both.server.err == b"done\n"
    assert both.server.statuses == [0]


def test_output_of_a_background_process_is_forwarded_after_the_end_of_its_task(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    waits = f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"
    with rig([f"(read x <{fifo}; echo late) & echo early", waits]) as both:
        both.run(until=lambda: bool(both.server.results))
        assert (both.server.out, both.server.result().exit_status) == (b"early\n", 0)
        fifo.write_text("go\n")
        both.run(until=lambda: both.server.out == b"early\nlate\n")
        (tmp_path / "go").touch()
        both.run()


# Time limits and orders


def test_a_task_past_its_limit_dies_with_all_its_children(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with rig([f"sleep 1000 >{fifo} & echo $! ; wait"], fields={"timeout": 1.5}) as both:
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        server = both.run()
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""
        os.close(reader)
    assert server.result().exit_status == -2
    assert (server.result().error or "").startswith("timeout")


def test_a_task_that_ignores_the_first_signals_is_killed() -> None:
    server = run_tasks(["trap '' INT TERM; while :; do sleep 0.05; done"], fields={"timeout": 0.1}, signalwait=0.1)
    assert (server.result().exit_status, (server.result().error or "")[:7]) == (-9, "timeout")


def test_interrupt_returns_tasks_and_leaves_no_child(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with rig([f"sleep 1000 >{fifo} & echo ready; wait", "echo ready; sleep 1000", "true"]) as both:
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        both.run(until=lambda: both.server.out == b"ready\nready\n")
        both.server.send(messages.Interrupt(0.1))
        both.run()
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""
        os.close(reader)
    assert len(both.server.returned) == 3
    assert not both.server.results


def test_drain_returns_what_is_queued() -> None:
    with rig(["echo ready; sleep 1000", "true", "true"], slots=1) as both:
        both.run(until=lambda: both.server.out == b"ready\n")
        both.server.send(messages.Drain())
        both.run(until=lambda: len(both.server.returned) == 2)
        assert not both.server.results
        both.server.send(messages.Interrupt(0.0))
        both.run()
    assert len(both.server.returned) == 3


def test_a_lost_server_ends_the_client_and_its_tasks() -> None:
    with rig(["trap '' TERM INT; echo $$; while :; do sleep 0.05; done"]) as both:
        both.run(until=lambda: both.server.out.endswith(b"\n"))
        both.server.send(Lost("the cable is cut"))  # type: ignore[arg-type]
        both.run(until=lambda: both.executor.finished)
    assert both.executor.lost == "the cable is cut"
    assert gone(int(both.server.out))


def test_an_idle_client_leaves() -> None:
    with rig(["true"], idle_timeout=0.05) as both:
        both.server._tasks.append(both.server._tasks[0])  # one answer is never enough
        both.run(until=lambda: both.executor.finished and both.server.turn(0.0) is False)
    assert both.server.left == "no work for 0.05 s"


def test_the_executor_can_be_told_to_stop_before_it_began() -> None:
    with rig([]) as both:
        both.executor.interrupt()
        both.executor.turn(0.0)
        assert both.executor.finished
        both.server.turn(0.0)
        assert both.server.left == "stopped before the first task"


def test_messages_that_are_not_for_clients_are_rejected(caplog: pytest.LogCaptureFixture) -> None:
    with rig(["echo fine"]) as both:
        both.server.send(messages.Leave("me"))  # type: ignore[arg-type]
        both.server.send(messages.Welcome(both.server.settings))
        with caplog.at_level(logging.WARNING, "hypershell.client"):
            server = both.run()
    assert server.out == b"fine\n"
    assert "Leave is not for clients" in caplog.text


# Templates


def test_commands_in_templates_run_beside_the_loop() -> None:
    server = run_tasks(["a", "b"], template="echo {} {% echo @ | tr ab xy %} {%printf '1\\n\\n'%}")
    assert sorted(server.out.splitlines()) == [b"a x 1", b"b y 1"]
    assert server.result().command == "echo a x 1"


def test_the_slot_of_template_variable_and_cores_is_one_number() -> None:
    told = "{slot} {= slot =} $TASK_SLOT {% echo $TASK_SLOT $TASK_SLOT_COUNT %} {slot_count} $TASK_SLOT_COUNT"
    server = run_tasks(["0.02", "0", "0.01", "0", "0", "0"], template=f"sleep {{}}; echo {told}", slots=3)
    lines = [line.split() for line in server.out.decode().splitlines()]
    assert len(lines) == 6 and {line[0] for line in lines} <= {"0", "1", "2"}
    assert all(line == [line[0]] * 4 + ["3"] * 3 for line in lines)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("echo {% exit 3 %}", "status 3"),
        ("echo {% kill -9 $$ %}", "signal 9"),
        ("echo {% head -c 200000 /dev/zero %}", "131,071 bytes"),
    ],
)
def test_a_failing_command_in_a_template_is_named(template: str, reason: str) -> None:
    result = run_tasks(["a"], template=template).result()
    assert result.exit_status == Special.TEMPLATE_FAILED
    assert result.error is not None and reason in result.error


# The log


def test_log_lines_that_scripts_match(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "hypershell.client"):
        run_tasks(["true"])
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    id = "01900000-0000-7000-8000-000000000000"
    assert ("INFO", f"Running task ({id})") in lines
    assert ("DEBUG", f"Running task ({id}: true)") in lines
    assert ("DEBUG", f"Completed task ({id})") in lines


def test_an_ended_client_asks_for_no_further_turn() -> None:
    """A child may end after its client; what is left of the loop must not spin on it."""
    with rig(["true"], slots=1) as both:
        both.run()
        both.executor._reaper.pending = True
        assert both.executor.deadline(1e9) is None


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ({"submit_id": "a\0b"}, "bad variable 'TASK_SUBMIT_ID': a NUL byte"),
        ({"submit_host": "a\0b"}, "bad variable 'TASK_SUBMIT_HOST': a NUL byte"),
        ({"cwd": b"/a\0b"}, "cannot start a process: ValueError"),
        ({"exports": {b"A\0": b"x"}}, "bad variable 'A\\x00': a NUL byte"),
    ],
)
def test_what_a_submission_says_fails_its_tasks_and_never_the_client(
    context: dict[str, Any], reason: str
) -> None:
    """A row may say anything; the tasks of the next submission run."""
    with rig(["echo bad"]) as both:
        both.server._context = replace(both.server._context, **context)
        good = replace(make_tasks(["echo good"])[0], id="good", submission=2)
        both.server._tasks.append(good)
        send = both.server.send

        def with_other(message: messages.ServerMessage) -> None:
            if isinstance(message, messages.Work):
                other = messages.Context(2, b"{}", os.fsencode(os.getcwd()), "me", "here")
                message = messages.Work(message.tasks, [*message.contexts, other])
            send(message)

        both.server.send = with_other  # type: ignore[method-assign]
        server = both.run()
    assert server.result().exit_status == Special.NOT_STARTED
    assert str(server.result().error).startswith(reason)
    assert server.results["good"].exit_status == 0


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ({"id": "a\nb"}, "the id of the task is empty, too long or not printable"),
        ({"tag": {"a": "b\0"}}, "bad tag 'a': a NUL byte"),
        ({"tag": {"a\0": 1}}, "bad tag 'a\\x00': a NUL byte"),
        ({"args": "a\0b"}, "the command contains a NUL byte"),
        ({"args": "\udc80"}, "cannot start a process: UnicodeEncodeError"),
    ],
)
def test_what_a_task_says_fails_it_and_never_the_client(task: dict[str, Any], reason: str) -> None:
    with rig(["echo bad", "echo good"]) as both:
        both.server._tasks[0] = bad = replace(both.server._tasks[0], **task)
        server = both.run()
    assert server.results[bad.id].exit_status == Special.NOT_STARTED
    assert str(server.results[bad.id].error).startswith(reason)
    assert server.result(1).exit_status == 0
