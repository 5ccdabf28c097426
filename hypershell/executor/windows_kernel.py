"""Job objects of Windows, by ctypes: what belongs to a job is ended, counted and outlived as one.

Everything that a process of a job starts is in the job too, and cannot leave it. Called by ``windows_spawn``.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_int64, c_size_t, c_uint32, c_uint64
from typing import Any

__all__ = ["Kernel"]

_KILL_ON_JOB_CLOSE = 0x2000
_BASIC_ACCOUNTING, _EXTENDED_LIMITS = 1, 9
_CTRL_BREAK = 1


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("per_process_time", c_int64),
        ("per_job_time", c_int64),
        ("flags", c_uint32),
        ("least_working_set", c_size_t),
        ("most_working_set", c_size_t),
        ("most_processes", c_uint32),
        ("affinity", c_size_t),
        ("priority", c_uint32),
        ("scheduling", c_uint32),
    )


class _ExtendedLimits(ctypes.Structure):
    _fields_ = (
        ("basic", _BasicLimits),
        ("io", c_uint64 * 6),
        ("process_memory", c_size_t),
        ("job_memory", c_size_t),
        ("peak_process_memory", c_size_t),
        ("peak_job_memory", c_size_t),
    )


class _Accounting(ctypes.Structure):
    _fields_ = (
        ("user", c_int64),
        ("kernel", c_int64),
        ("period_user", c_int64),
        ("period_kernel", c_int64),
        ("page_faults", c_uint32),
        ("processes", c_uint32),
        ("active", c_uint32),
        ("terminated", c_uint32),
    )


class Kernel:
    """The calls that are needed. Handles are numbers; each is closed by whoever got it.

    Raises ``OSError`` where Windows refuses.
    """

    def __init__(self) -> None:
        self._kernel32 = _library("kernel32")
        self._ntdll = _library("ntdll")

    def make_job(self, *, dies_with_us: bool = False) -> int:
        """A handle of a new job, which no process inherits.

        :param dies_with_us: everything in it ends when the handle is closed, as it is when this process ends.
        """
        made = self._kernel32.CreateJobObjectW(None, None)
        if not made:
            raise self._error()
        job = int(made)
        if dies_with_us:
            limits = _ExtendedLimits()
            limits.basic.flags = _KILL_ON_JOB_CLOSE
            size = ctypes.sizeof(limits)
            if not self._kernel32.SetInformationJobObject(
                ctypes.c_void_p(job), _EXTENDED_LIMITS, ctypes.byref(limits), size
            ):
                error = self._error()
                self.close(job)
                raise error
        return job

    def put_into(self, job: int, process: int) -> None:
        """Make `process`, which has not begun, and all that it will start, a part of `job`."""
        if not self._kernel32.AssignProcessToJobObject(ctypes.c_void_p(job), ctypes.c_void_p(process)):
            raise self._error()

    def let_go(self, process: int) -> None:
        """Let a process that was made suspended begin."""
        status = self._ntdll.NtResumeProcess(ctypes.c_void_p(process))
        if status:
            raise OSError(f"NtResumeProcess: status {status & 0xFFFFFFFF:#x}")

    def end_job(self, job: int, status: int) -> None:
        """End everything in `job`; what ended so has exit status `status`."""
        self._kernel32.TerminateJobObject(ctypes.c_void_p(job), status)

    def press_break(self, group: int) -> None:
        """Ctrl-Break for the processes of a group that share our console; without a console nothing happens."""
        self._kernel32.GenerateConsoleCtrlEvent(_CTRL_BREAK, group)

    def has_console(self) -> bool:
        """Whether this process has a console, which the processes that it starts then share."""
        return bool(self._kernel32.GetConsoleWindow())

    def usage(self, job: int) -> tuple[float, float, int]:
        """User and system seconds of all in `job`, and the most bytes that one of them had committed."""
        times, limits = _Accounting(), _ExtendedLimits()
        self._query(job, _BASIC_ACCOUNTING, times)
        self._query(job, _EXTENDED_LIMITS, limits)
        return times.user / 1e7, times.kernel / 1e7, int(limits.peak_process_memory)

    def _query(self, job: int, what: int, into: ctypes.Structure) -> None:
        self._kernel32.QueryInformationJobObject(
            ctypes.c_void_p(job), what, ctypes.byref(into), ctypes.sizeof(into), None
        )

    def close(self, handle: int) -> None:
        """Give a handle back."""
        self._kernel32.CloseHandle(ctypes.c_void_p(handle))

    def _error(self) -> OSError:
        if sys.platform == "win32":
            return ctypes.WinError(ctypes.get_last_error())
        return OSError("no Windows")


def _library(name: str) -> Any:
    """A library of the system, of which functions that give a handle give it whole."""
    if sys.platform != "win32":
        raise OSError("job objects are there on Windows alone")
    library = ctypes.WinDLL(name, use_last_error=True)
    if name == "kernel32":
        for function in ("CreateJobObjectW", "GetConsoleWindow"):
            getattr(library, function).restype = ctypes.c_void_p
    return library
