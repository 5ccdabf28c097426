"""Entry of every console script.

``mpi`` goes straight to its module: a worker rank must reach MPI without argparse, configuration or help texts.
"""

from __future__ import annotations

import sys

__all__ = ["main", "main_cluster"]


def main(argv: list[str] | None = None) -> int:
    """Run ``hs ARGV`` and return its exit status."""
    _open_standard_streams()
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["mpi"] and sys.platform != "win32":
        return _mpi(argv[1:])
    from hypershell.apps.main import main as main_of_apps

    return main_of_apps(argv)


def _mpi(argv: list[str]) -> int:
    """A rank, which must not die of a signal before it has begun or after it has done its part."""
    from hypershell.signal_desk import SignalDesk, ignore_for_good

    SignalDesk().open()
    from hypershell.apps.mpi import main as main_of_mpi

    status = main_of_mpi(argv)
    ignore_for_good()
    return status


def _open_standard_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed, before a file of ours gets such a number."""
    if sys.stdin is not None and sys.stdout is not None and sys.stderr is not None:
        return
    from hypershell.executor.spawn import open_standard_descriptors

    open_standard_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as we do
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def main_cluster() -> int:
    """Run ``hsx ...``, that is ``hs cluster ...``."""
    return main(["cluster", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
