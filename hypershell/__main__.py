"""Entry of every console script.

``mpi`` goes straight to its module: a worker rank must reach MPI without argparse, configuration or help texts.
"""

import os
import sys


def _leave_current_folder() -> None:
    """Import nothing from where ``python -m`` looks first; ``hs`` and ``python -P -m`` do not look there.

    To be called before other imports: `os` and `sys` are there already, whatever lies in that folder.
    """
    try:
        here = os.getcwd()
    except OSError:  # gone, so nothing is in it
        return
    if sys.path[:1] == [here]:
        del sys.path[0]


if __name__ == "__main__" and not sys.flags.safe_path:
    _leave_current_folder()

from hypershell.room import lack  # noqa: E402

__all__ = ["main", "main_cluster"]


def main(argv: list[str] | None = None) -> int:
    """Run ``hs ARGV`` and return its exit status."""
    try:
        _open_standard_streams()
        if argv is not None:
            return _main(argv)
        _begin_in_utf8()
        argv = sys.argv[1:]
        return _own_rank(argv) if _is_rank(argv) else _main(argv)
    except KeyboardInterrupt:  # while modules are read; later a command's frame tells
        sys.stderr.write("CRITICAL [hypershell] keyboard-interrupt: stopped\n")
        return 4
    except Exception as error:
        # Mostly a module that cannot be read: what a command lacks is told by its frame.
        if (reason := lack(error)) is None:
            raise
        from hypershell.ostext import one_line

        sys.stderr.write(f"CRITICAL [hypershell] {one_line(reason)}\n")
        return 5


def _is_rank(argv: list[str]) -> bool:
    return argv[:1] == ["mpi"] and sys.platform != "win32"


def _main(argv: list[str]) -> int:
    if _is_rank(argv):
        from hypershell.apps.mpi import main as main_of_mpi

        return main_of_mpi(argv[1:])
    from hypershell.apps.main import main as main_of_apps

    return main_of_apps(argv)


def _own_rank(argv: list[str]) -> int:
    """A process that is a rank and nothing else: no signal ends it before it has begun, nor after its part."""
    from hypershell.signal_desk import SignalDesk, ignore_for_good

    SignalDesk().open()
    status = _main(argv)
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


def _begin_in_utf8() -> None:
    """Begin anew where Python would read names and arguments in another encoding than ours (a Latin-1 locale).

    Bytes that are not UTF-8 come through in any locale then. Neither the process nor its environment changes.
    """
    is_utf8 = sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode
    if is_utf8 or sys.platform == "win32" or not sys.executable:
        return
    try:
        os.execv(sys.executable, [sys.executable, "-P", "-X", "utf8", *sys.orig_argv[1:]])
    except OSError:  # in an odd place, where only names in that encoding will do
        return


def main_cluster() -> int:
    """Run ``hsx ...``, that is ``hs cluster ...``."""
    _begin_in_utf8()
    return main(["cluster", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
