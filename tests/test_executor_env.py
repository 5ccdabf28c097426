"""The environment of a task."""

from __future__ import annotations

import json
import os
import sys

import pytest

from hypershell.core.model import ClientInfo, Special, Task
from hypershell.data.times import Stamper
from hypershell.executor.env import LONGEST, Environment, inherited, scrub
from hypershell.proto.messages import Context
from tests.test_executor_rig import CLIENT_ID, make_settings, run_tasks

COLUMNS = """
    ID GROUP ARGS SUBMIT_ID SUBMIT_TIME SUBMIT_HOST CORES MEMORY CORES_MAX MEMORY_MAX TIMEOUT SERVER_ID SERVER_HOST
    SCHEDULE_TIME CLIENT_ID CLIENT_HOST COMMAND START_TIME COMPLETION_TIME EXIT_STATUS ATTEMPT RETRIED WAITED
    DURATION PREVIOUS_ID NEXT_ID CWD OUTPATH ERRPATH CSVPATH TAG_PART SLOT SLOT_COUNT CORE_LIST
"""


def environment(environ: dict[bytes, bytes] | None = None) -> Environment:
    info = ClientInfo(CLIENT_ID, "client-host", 1, 1, "0", sys.platform)
    return Environment(environ or {}, make_settings(), info)


def environ_of(task: Task, line: bytes = b"x", command: bytes = b"y", **exports: str) -> dict[bytes, bytes]:
    made = environment()
    found = {os.fsencode(name): os.fsencode(text) for name, text in exports.items()}
    context = Context(1, b"{}", b"/", "submit-id", "submit-host", exports=found)
    return {**made.shared(context, "/work"), **made.of(task, line, command, 86400.0)}


@pytest.mark.parametrize(
    "name",
    [
        *("PMI_FD", "PMI_RANK", "HYDI_CONTROL_FD", "MPI_LOCALRANKID", "GFORTRAN_UNBUFFERED_PRECONNECTED"),
        *("PMIX_SERVER_URI41", "PRTE_LAUNCHED", "OMPI_COMM_WORLD_RANK", "OMPI_COMMAND", "OMPI_MCA_PREFIXES"),
        *("OMPI_MCA_ess", "OMPI_MCA_ess_base_vpid", "OMPI_MCA_orte_ess_num_procs", "OMPI_MCA_pmix"),
        *("I_MPI_HYDRA_X", "HYDRA_BSTRAP_XTERM", "MV2_COMM_WORLD_RANK", "PALS_RANKID", "FLUX_TASK_RANK"),
        *("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_PROCID", "SLURM_MPI_TYPE", "SLURM_CPU_BIND_LIST", "SLURM_PMIXP"),
    ],
)
def test_what_a_launcher_set_for_a_rank_is_removed_and_kept_aside(name: str) -> None:
    kept, removed = scrub({name.encode(): b"1", b"PATH": b"/bin"})
    assert (kept, removed) == ({b"PATH": b"/bin"}, {name.encode(): b"1"})
    originals = json.loads(inherited({name.encode(): b"1"})[b"HS_LAUNCHER_ENV"])
    assert originals == {name: "1"}


@pytest.mark.parametrize(
    "name",
    [
        *("OMPI_MCA_btl", "OMPI_MCA_essential", "MPIR_CVAR_CH4_NETMOD", "I_MPI_FABRICS", "UCX_TLS", "FI_PROVIDER"),
        *(
            "SLURM_JOB_ID",
            "SLURM_NODELIST",
            "SLURM_TASKS_PER_NODE",
            "SLURM_NTASKS",
            "FLUX_URI",
            "TASK_FORCE",
            "XPMI_X",
        ),
    ],
)
def test_what_is_the_users_or_the_jobs_stays(name: str) -> None:
    environ = inherited({name.encode(): b"1", b"SLURM_OVERLAP": b"1"})
    assert environ == {name.encode(): b"1", b"SLURM_OVERLAP": b"1"}


@pytest.mark.parametrize(
    "name",
    ["SLURM_JOB_ID", "SLURM_NODELIST", "SLURM_CPUS_ON_NODE", "PBS_NODEFILE", "LSB_HOSTS", "FLUX_URI", "PE"],
)
def test_what_is_the_jobs_goes_with_level_job_only(name: str) -> None:
    assert scrub({name.encode(): b"1"}, "job") == ({}, {name.encode(): b"1"})
    assert name.encode() in scrub({name.encode(): b"1"}, "rank")[0]


def test_levels_of_the_launchers_variables() -> None:
    environ = {b"PMI_FD": b"3", b"SLURM_JOB_ID": b"7", b"SLURM_CONF": b"/c", b"OMPI_MCA_btl": b"^ofi"}
    assert scrub(environ, "job") == (
        {b"SLURM_CONF": b"/c", b"OMPI_MCA_btl": b"^ofi"},
        {b"PMI_FD": b"3", b"SLURM_JOB_ID": b"7"},
    )
    assert scrub(environ, "none") == (environ, {})
    assert inherited({**environ, b"HYPERSHELL_SERVER_AUTH": b"secret"}, "none") == environ


def test_originals_that_are_too_long_are_left_out_the_longest_first() -> None:
    made = inherited({b"LSB_HOSTS": b"h" * 100_000, b"LSB_MCPU_HOSTS": b"h" * 50_000, b"PMI_RANK": b"1"}, "job")
    assert json.loads(made[b"HS_LAUNCHER_ENV"]) == {"LSB_MCPU_HOSTS": "h" * 50_000, "PMI_RANK": "1"}


def test_originals_that_are_not_utf8_are_shown_as_in_lines() -> None:
    made = inherited({b"PMIX_caf\xe9": b"/caf\xe9"})
    assert json.loads(made[b"HS_LAUNCHER_ENV"]) == {r"PMIX_caf\xe9": r"/caf\xe9"}


def test_steps_inside_a_slurm_job_may_overlap() -> None:
    assert inherited({b"SLURM_JOB_ID": b"7"})[b"SLURM_OVERLAP"] == b"1"
    assert inherited({b"SLURM_JOB_ID": b"7", b"SLURM_OVERLAP": b"0"})[b"SLURM_OVERLAP"] == b"0"
    assert b"SLURM_OVERLAP" not in inherited({})


def test_the_command_line_of_the_rank_is_not_kept_aside() -> None:
    """It may hold a key."""
    passed = inherited({b"OMPI_ARGV": b"mpi -k secret", b"OMPI_COMMAND": b"hs"})
    assert json.loads(passed[b"HS_LAUNCHER_ENV"]) == {"OMPI_COMMAND": "hs"}


def test_secrets_do_not_pass_and_exports_pass_verbatim() -> None:
    environ = inherited(
        {
            b"HYPERSHELL_SERVER_AUTH": b"secret",
            b"HYPERSHELL_EXPORT_NUM": b"007",
            b"HYPERSHELL_EXPORT_lower_Case": b" ",
            b"HYPERSHELL_EXPORT_A": b"",
            b"HYPERSHELL_EXPORT_A_B": b"\xff",
            b"HYPERSHELL_EXPORT_": b"x",
        }
    )
    assert environ == {b"NUM": b"007", b"lower_Case": b" ", b"A": b"", b"A_B": b"\xff"}


def test_an_outer_tasks_words_do_not_pass() -> None:
    assert inherited({b"TASK_ID": b"outer", b"TASK_TAG_X": b"1", b"TASK_CLIENT_ID": b"outer"}) == {}


def test_every_column_has_a_variable() -> None:
    environ = environ_of(Task("id", "x", 1))
    assert {f"TASK_{name}".encode() for name in COLUMNS.split()} == {n for n in environ if n.startswith(b"TASK_")}


def test_the_values_of_a_task() -> None:
    task = Task(
        "the-id",
        "x",
        1,
        attempt=3,
        group=2,
        timeout=1.5,
        tag={"run-1.x": "v", "n": 3, "yes": True, "no": False, "none": None, "part": 4, "naked": ""},
        submit_time=1795330017.254728,
        schedule_time=1795330017.0,
        previous_id="before",
        cores=4,
        memory=1 << 33,
    )
    environ = environ_of(task, b"\xff line", b"command")
    expected = {
        "ID": "the-id",
        "GROUP": "2",
        "ATTEMPT": "3",
        "TIMEOUT": "1.5",
        "CORES": "4",
        "MEMORY": "8589934592",
        "PREVIOUS_ID": "before",
        "NEXT_ID": "null",
        "EXIT_STATUS": "null",
        "RETRIED": "false",
        "SUBMIT_ID": "submit-id",
        "SUBMIT_HOST": "submit-host",
        "SERVER_ID": "server-id",
        "SERVER_HOST": "server-host",
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_HOST": "client-host",
        "CWD": "/work",
        "COMMAND": "command",
        "SUBMIT_TIME": "2026-11-22 06:46:57.254728+00:00",
        "SCHEDULE_TIME": "2026-11-22 06:46:57.000000+00:00",
        "START_TIME": "1970-01-02 00:00:00.000000+00:00",
        "TAG_RUN_1_X": "v",
        "TAG_N": "3",
        "TAG_YES": "true",
        "TAG_NO": "false",
        "TAG_NONE": "null",
        "TAG_PART": "4",
        "TAG_NAKED": "",
    }
    assert {name: environ[f"TASK_{name}".encode()].decode() for name in expected} == expected
    assert environ[b"TASK_ARGS"] == b"\xff line"


@pytest.mark.parametrize("seconds", [1796078000.109700, 1796078000.895500, 1796078000.9999996, 1796078000.0])
def test_a_time_is_rounded_as_in_the_database(seconds: float) -> None:
    found = environ_of(Task("i", "x", 1, submit_time=seconds))[b"TASK_SUBMIT_TIME"].decode()
    assert found == Stamper(zone=True).text(seconds)


def test_a_time_limit_of_many_digits_is_not_rounded_to_an_exponent() -> None:
    assert environ_of(Task("i", "x", 1, timeout=12345678.0))[b"TASK_TIMEOUT"] == b"12345678"


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e30, 1e30])
def test_a_time_that_no_calendar_has_is_missing(seconds: float) -> None:
    assert environ_of(Task("i", "x", 1, submit_time=seconds))[b"TASK_SUBMIT_TIME"] == b"null"


def test_long_lines_are_left_out() -> None:
    fits = b"x" * (LONGEST - len("TASK_ARGS="))
    assert environ_of(Task("i", "x", 1), fits, b"c")[b"TASK_ARGS"] == fits
    environ = environ_of(Task("i", "x", 1), fits + b"x", b"c")
    assert b"TASK_ARGS" not in environ and environ[b"TASK_COMMAND"] == b"c"
    fits = b"x" * (LONGEST - len("TASK_COMMAND="))
    assert b"TASK_COMMAND" in environ_of(Task("i", "x", 1), b"a", fits)
    assert b"TASK_COMMAND" not in environ_of(Task("i", "x", 1), b"a", fits + b"x")


def test_tasks_do_not_see_each_others_values() -> None:
    made = environment()
    shared = made.shared(Context(1, b"{}", b"/", "a", "b"), "/")
    made.of(Task("one", "x", 1, tag={"t": 1}, cores=2), b"x", b"x", 0.0)
    second = {**shared, **made.of(Task("two", "x", 1), b"x", b"x", 0.0)}
    assert b"TASK_TAG_T" not in second and second[b"TASK_CORES"] == b"null"


def test_exports_that_no_process_can_get_are_named() -> None:
    def error_of(**exports: str) -> str | None:
        found = {os.fsencode(name): os.fsencode(text) for name, text in exports.items()}
        return environment().error(Context(1, b"{}", b"/", "a", "b", exports=found))

    error = error_of(BIG="x" * 131_072)
    assert error is not None and "BIG" in error and "131,076 bytes" in error
    assert error_of(NUL="a\0b") is not None
    assert error_of(FINE="x" * 131_066) is None
    server = run_tasks(["true"], exports={b"BIG": b"x" * 131_072})
    assert server.result().exit_status == Special.NOT_STARTED
    assert server.result().error == error


def test_a_task_sees_all_of_it() -> None:
    environ = {**os.environb, b"HYPERSHELL_EXPORT_MINE": b"\xfe", b"HYPERSHELL_KEY": b"secret", b"PMI_RANK": b"1"}
    server = run_tasks(["env -0"], environ=environ, exports={b"THEIRS": b"007"}, fields={"tag": {"a.b": 1}})
    pairs = dict(item.split(b"=", 1) for item in server.out.split(b"\0") if item)
    assert pairs[b"MINE"] == b"\xfe"
    assert pairs[b"THEIRS"] == b"007"
    assert pairs[b"TASK_TAG_A_B"] == b"1"
    assert pairs[b"TASK_ARGS"] == pairs[b"TASK_COMMAND"] == b"env -0"
    assert pairs[b"TASK_CLIENT_ID"] == CLIENT_ID.encode()
    assert pairs[b"TASK_SUBMIT_TIME"] == b"1970-01-01 00:00:01.500000+00:00"
    assert not any(name.startswith((b"HYPERSHELL", b"PMI")) for name in pairs)
