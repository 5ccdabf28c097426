"""Want of room: how the system says it, which limit is behind it, descriptors that are kept."""

from __future__ import annotations

import errno
import os

import pytest

from hypershell.room import Spare, lack, limit_behind, reason, shortage
from tests.testbed.room import descriptors


def _chained() -> Exception:
    try:
        raise ValueError("of the driver") from OSError(errno.EMFILE, "Too many open files")
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files", "/x/y.py"), ["/x/y.py", "no file descriptor", "ulimit -n"]),
        (OSError(errno.ENFILE, "Too many open files in system"), ["this machine", "no file descriptor"]),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ["no memory"]),
        (MemoryError(), ["no memory"]),
        (SystemError("error return without exception set"), ["no memory"]),
        (RuntimeError("can't start new thread"), ["no thread", "ulimit -u"]),
        (
            ImportError("libx.so.1: cannot open shared object file: Too many open files"),
            ["libx.so.1", "no file descriptor"],
        ),
        (_chained(), ["no file descriptor"]),
    ],
)
def test_want_of_room_is_said_in_one_line(error: BaseException, words: list[str]) -> None:
    text = lack(error)
    assert text is not None and "\n" not in text
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "No such file or directory"),
        ImportError("libx.so.1: cannot open shared object file: No such file or directory"),
        ModuleNotFoundError("No module named 'x'"),
        RuntimeError("something else"),
        SystemError("bad call"),
    ],
)
def test_other_errors_are_no_want_of_room(error: BaseException) -> None:
    assert lack(error) is None


def test_a_limit_is_named_where_one_is_behind_an_error() -> None:
    with descriptors(4) as limit:
        error = OSError(errno.EMFILE, "Too many open files")
        assert reason(error) == f"Too many open files (ulimit -n is {limit})"
        try:
            try:
                raise error
            except OSError:
                raise ValueError("cannot write x") from None
        except ValueError as other:
            assert limit_behind(other) == f"ulimit -n is {limit}"
    assert reason(OSError(errno.ENOENT, "No such file")) == "No such file"


def test_shortage_takes_nothing() -> None:
    with descriptors(3):
        assert shortage(3) is None
        error = shortage(4)
        assert error is not None and error.errno == errno.EMFILE and error.filename is None
        assert shortage(3) is None


def test_spare_descriptors_are_there_when_no_others_are() -> None:
    with descriptors(3):
        spare = Spare(2)
        last = os.open(os.devnull, os.O_RDONLY)
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        spare.give()
        used = os.open(os.devnull, os.O_RDONLY)
        spare.keep()
        assert len(spare) == 1  # as far as there are any
        os.close(used)
        spare.keep()
        assert len(spare) == 2
        os.close(last)
        spare.give()
        assert len(spare) == 0
