"""Entry of every console script.

``mpi`` goes straight to its module: a worker rank must reach MPI without argparse, configuration or help texts.
"""

from __future__ import annotations

import sys

__all__ = ["main", "main_cluster"]


def main(argv: list[str] | None = None) -> int:
    """Run ``hs ARGV`` and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["mpi"]:
        from hypershell.apps.mpi import main as main_of_mpi

        return main_of_mpi(argv[1:])
    from hypershell.apps.main import main as main_of_apps

    return main_of_apps(argv)


def main_cluster() -> int:
    """Run ``hsx ...``, that is ``hs cluster ...``."""
    return main(["cluster", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
