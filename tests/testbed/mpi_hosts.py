"""Several hosts on this machine for MPI: those of `hosts`, with an sshd each. Needs sshd(8) and ssh(1) as well."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.testbed.hosts import PATIENCE, Hosts, why_not
from tests.testbed.mpi import Mpi, clean_environ

__all__ = ["MpiHosts", "needs_hosts"]

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_SSH_CONFIG = """\
Host h*
  IdentityFile {folder}/id
  IdentitiesOnly yes
  IdentityAgent none
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  BatchMode yes
  LogLevel ERROR
"""
_SSHD_CONFIG = """\
Port 22
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/id.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
MaxStartups 200:30:400
SetEnv TMPDIR=/dev/shm
PrintMotd no
"""


def missing() -> str:
    """Why there can be no hosts here, or nothing."""
    absent = [tool for tool in ("ssh", "ssh-keygen", "sshd") if shutil.which(tool, path=_PATH) is None]
    return f"{', '.join(absent)} not installed" if absent else why_not() or ""


def needs_hosts() -> pytest.MarkDecorator:
    """Skip, or in CI fail, where hosts cannot be made."""
    reason = missing() if os.environ.get("CI") != "true" else ""
    return pytest.mark.skipif(bool(reason), reason=reason)


class MpiHosts(Hosts):
    """Hosts h1, h2, ..., in `folder`, each with an sshd that the launchers of MPI use."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        if reason := missing():
            pytest.fail(reason)
        self.folder = folder
        super().__init__(folder, *(f"h{number}" for number in range(1, count + 1)))
        try:
            self._write_keys()
            for name, address in self.addresses.items():
                self._start_sshd(name, address)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> MpiHosts:
        return self

    def mend(self, name: str) -> None:
        """As before `cut`; returns when the other hosts can be reached from there."""
        super().mend(name)
        until = time.monotonic() + PATIENCE
        for other in self._inits:
            words = self.on(name, self.folder, [str(self.folder / "ssh"), other, "true"])
            while subprocess.run(words, capture_output=True, check=False).returncode:
                assert time.monotonic() < until, f"{other} cannot be reached from {name}"

    def start_mpi(
        self, mpi: Mpi, hosts: Sequence[str], args: Sequence[str], env: Mapping[str, str], cwd: Path,
        survive: bool = False,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Start ``python ARGS`` under the launcher of `mpi`, which runs on the first host.

        There is a rank on each of `hosts`; one that is named several times in a row has several.
        """
        ssh = str(self.folder / "ssh")
        counted = [f"{host}:{hosts.count(host)}" for host in dict.fromkeys(hosts)]
        if mpi.name == "openmpi":
            where = ["--host", ",".join(counted), "--bind-to", "none"]
            where += ["--prtemca", "plm", "ssh", "--prtemca", "plm_ssh_agent", ssh]
            where += ["--prtemca", "prte_if_include", "eth0", "--mca", "btl_tcp_if_include", "eth0"]
            for key in (*env, "PYTHONPATH"):
                where += ["-x", key]
        else:
            where = ["-launcher", "ssh", "-launcher-exec", ssh, "-hosts", ",".join(counted)]
        if survive:
            where += ["--with-ft", "ulfm"]
        command = [mpi.mpiexec, *where, "-n", str(len(hosts)), mpi.python, *args]
        return subprocess.Popen(
            self.on(hosts[0], cwd, ["env", "TMPDIR=/dev/shm", *command]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=clean_environ(env), start_new_session=True,
        )  # fmt: skip

    def _write_keys(self) -> None:
        folder = self.folder
        for key in ("host_key", "id"):
            self._run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / key)])
        named = "".join(f"Host {name}\n  HostName {address}\n" for name, address in self.addresses.items())
        (folder / "ssh_config").write_text(_SSH_CONFIG.format(folder=folder) + named)
        (folder / "ssh").write_text(f'#!/bin/sh\nexec ssh -F {folder}/ssh_config "$@"\n')
        (folder / "ssh").chmod(0o755)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def _start_sshd(self, name: str, address: str) -> None:
        config = self.folder / f"sshd_{name}"
        config.write_text(_SSHD_CONFIG.format(address=address, folder=self.folder))
        sshd = shutil.which("sshd", path=_PATH)
        self._run(self.on(name, self.folder, [str(sshd), "-f", str(config)]))
