"""When a job ends, as the schedulers say it: variables, the answers of their commands, and restarts."""

from __future__ import annotations

import time
from math import inf

import pytest

from hypershell.allocation import end_from_environ, question, restarts

NOW = 1_700_000_000.0

QSTAT_PBS = """Job Id: 4242.pbs01
    Job_Name = tasks
    resources_used.walltime = 00:10:00
    Resource_List.ncpus = 8
    Resource_List.walltime = 02:00:00
    stime = {start}
    substate = 42
"""
QSTAT_TORQUE = """Job Id: 17.head
    Resource_List.walltime = 26:00:00
    start_time = {start}
"""


def left(environ: dict[str, str], answer: str) -> float | None:
    asked = question(environ)
    assert asked is not None
    end = asked.read(answer, NOW)
    return None if end is None else end - NOW


def test_outside_of_any_scheduler_nothing_is_asked() -> None:
    assert question({}) is None and end_from_environ({}) is None and restarts({}) is None
    # Grid Engine has no command for it.
    assert question({"JOB_ID": "7", "SGE_ROOT": "/sge", "NSLOTS": "4"}) is None


def test_a_variable_goes_before_a_command() -> None:
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1700003600"}
    assert end_from_environ(environ) == NOW + 3600
    for bad in ("", "0", "soon", "-5", "17000036001234", "١٧٠٠٠٠٣٦٠٠"):
        assert end_from_environ({**environ, "SLURM_JOB_END_TIME": bad}) is None
    assert end_from_environ({"SLURM_JOB_END_TIME": "1700003600"}) is None


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ("9:30\n", 570.0),
        ("59:59", 3599.0),
        ("2:00:00\n", 7200.0),
        ("1-12:00:05\n", 129605.0),
        ("0:00", 0.0),
        ("UNLIMITED\n", inf),
        ("INVALID", None),
        ("NOT_SET", None),
        ("", None),
        ("\n\n", None),
        ("slurm_load_jobs error: Invalid job id specified", None),
    ],
)
def test_slurm(answer: str, seconds: float | None) -> None:
    assert left({"SLURM_JOB_ID": "7"}, answer) == seconds


def test_slurm_is_asked_for_this_job() -> None:
    asked = question({"SLURM_JOB_ID": "7", "PBS_JOBID": "8"})
    assert asked is not None and asked.command == ["squeue", "--noheader", "--jobs", "7", "--format", "%L"]


@pytest.mark.parametrize(("text", "limit"), [(QSTAT_PBS, 7200.0), (QSTAT_TORQUE, 93600.0)])
def test_pbs_counts_from_the_start(text: str, limit: float) -> None:
    start = time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(NOW - 900))
    assert left({"PBS_JOBID": "4242.pbs01"}, text.format(start=start)) == limit - 900


def test_pbs_without_a_start_or_a_limit() -> None:
    environ = {"PBS_JOBID": "4242.pbs01"}
    assert left(environ, QSTAT_PBS.format(start="no date")) == 7200 - 600
    assert left(environ, "    Resource_List.walltime = 00:30:00\n") == 1800
    assert left(environ, "    Resource_List.ncpus = 4\n") == inf
    assert left(environ, "qstat: Unknown Job Id") is None


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [("0:35 L\n", 2100.0), ("12:05 L", 43500.0), ("1:00\n", 3600.0), ("0:35 E", None), ("0:1 X", None), ("-", inf)],
)
def test_lsf(answer: str, seconds: float | None) -> None:
    assert left({"LSB_JOBID": "9", "LSB_JOBINDEX": "0"}, answer) == seconds


def test_lsf_asks_for_the_member_of_an_array() -> None:
    asked = question({"LSB_JOBID": "9", "LSB_JOBINDEX": "3"})
    assert asked is not None and asked.command[-1] == "9[3]"


@pytest.mark.parametrize(("answer", "seconds"), [("3585\n", 3585.0), ("0", 0.0), ("infinity", inf), ("", None)])
def test_flux(answer: str, seconds: float | None) -> None:
    assert left({"FLUX_JOB_ID": "f23"}, answer) == seconds


def test_restarts() -> None:
    assert restarts({"SLURM_RESTART_COUNT": "2"}) == "SLURM_RESTART_COUNT"
    assert restarts({"LSB_RESTART": "Y"}) == "LSB_RESTART"
    assert restarts({"SGE_ROOT": "/sge", "RESTARTED": "1"}) == "RESTARTED"
    for nothing in ({"SLURM_RESTART_COUNT": "0"}, {"SLURM_RESTART_COUNT": "x"}, {"LSB_RESTART": "N"},
                    {"RESTARTED": "1"}, {"SGE_ROOT": "/sge", "RESTARTED": "0"}):  # fmt: skip
        assert restarts(nothing) is None
