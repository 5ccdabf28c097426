"""Several "hosts" on this machine for MPI: namespaces of network, name, processes, shared memory; an sshd each.

Needs root, ip(8), unshare(1), nsenter(1) and sshd(8). The file system is shared, process ids repeat across hosts,
as on a cluster. `MpiHosts` is a context: at its end all hosts and everything that runs on them are gone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pytest

from tests.testbed.mpi import Mpi, clean_environ

__all__ = ["MpiHosts", "needs_hosts"]

#: Seconds for a host to come up, or for processes to go.
PATIENCE = 60.0

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
#: What a host's first process does: it gets a name, memory of its own, and waits; when it dies, the host dies.
_INIT = """
set -e
hostname {name}
mount --bind {folder}/hosts /etc/hosts
mount -t tmpfs none /dev/shm
ip link set lo up
set +e
trap : CHLD
echo up
while :; do sleep 100000 & wait $!; done
"""


def missing() -> str:
    """Why there can be no hosts here, or nothing."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "hosts need root"
    tools = ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "sshd")
    absent = [tool for tool in tools if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]
    return f"hosts need {', '.join(absent)}" if absent else ""


def needs_hosts() -> pytest.MarkDecorator:
    """Skip, or in CI fail, where hosts cannot be made."""
    reason = missing() if os.environ.get("CI") != "true" else ""
    return pytest.mark.skipif(bool(reason), reason=reason)


class MpiHosts:
    """Hosts h1, h2, ..., in `folder`."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.folder = folder
        self.names = [f"h{number}" for number in range(1, count + 1)]
        # Others on this machine may do the same at the same time.
        number = secrets.randbelow(60 * 250)
        self._bridge = f"hm{secrets.token_hex(3)}"
        self._net = f"10.{64 + number // 250}.{number % 250}"
        self._inits: dict[str, subprocess.Popen[str]] = {}
        self._pids: dict[str, int] = {}

    def __enter__(self) -> MpiHosts:
        reason = missing()
        if reason:
            pytest.fail(reason)
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let everything go; idempotent."""
        for name in list(self._inits):
            self.crash(name)
        for link in (*map(self._link, self.names), self._bridge):
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)

    # -- what happens to hosts ---------------------------------------------------------------------------

    def crash(self, name: str) -> None:
        """The host is gone, with all its processes, at once."""
        process = self._inits.pop(name)
        pid = self._pids.get(name)
        if pid is not None and process.poll() is None:
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()

    def cut(self, name: str) -> None:
        """The host is there, but nothing reaches it, nor comes from it."""
        self._ip("link", "set", self._link(name), "down")

    def mend(self, name: str) -> None:
        """As before `cut`; returns when the other hosts can be reached from there."""
        self._ip("link", "set", self._link(name), "up")
        end = time.monotonic() + PATIENCE
        for other in self._inits:
            words = self.on(name, [str(self.folder / "ssh"), other, "true"])
            while subprocess.run(words, capture_output=True, check=False).returncode:
                assert time.monotonic() < end, f"{other} cannot be reached from {name}"

    # -- what runs on them -------------------------------------------------------------------------------

    def on(self, name: str, command: Sequence[str], cwd: str | os.PathLike[str] = "/") -> list[str]:
        """The command line that runs `command` on a host, in the folder `cwd`."""
        flags = ["-t", str(self._pids[name]), "-n", "-u", "-m", "-i", "-p"]
        return ["nsenter", *flags, "--", "env", "-C", os.fspath(cwd), "TMPDIR=/dev/shm", *command]

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
            self.on(hosts[0], command, cwd),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=clean_environ(env), start_new_session=True,
        )  # fmt: skip

    def processes(self, name: str, word: str) -> list[int]:
        """Processes of a host with `word` in their command lines, as this machine numbers them."""
        found = []
        place = os.readlink(f"/proc/{self._pids[name]}/ns/pid")
        for entry in os.listdir("/proc"):
            if not entry.isdecimal():
                continue
            try:
                if os.readlink(f"/proc/{entry}/ns/pid") == place:
                    words = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace")
                    if word in words.replace("\0", " "):
                        found.append(int(entry))
            except OSError:
                continue
        return found

    def wait_gone(self, name: str, word: str) -> None:
        """Wait until no process of a host has `word` in its command line."""
        end = time.monotonic() + PATIENCE
        while self.processes(name, word):
            assert time.monotonic() < end, f"{word} still runs on {name}"
            time.sleep(0.05)

    # -- setting up --------------------------------------------------------------------------------------

    def _link(self, name: str) -> str:
        return f"{self._bridge}{name}"

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def _set_up(self) -> None:
        folder = self.folder
        for key in ("host_key", "id"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / key)],
                check=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        addresses = {name: f"{self._net}.{10 + place}" for place, name in enumerate(self.names)}
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        named = "".join(f"Host {name}\n  HostName {address}\n" for name, address in addresses.items())
        (folder / "ssh_config").write_text(_SSH_CONFIG.format(folder=folder) + named)
        (folder / "ssh").write_text(f'#!/bin/sh\nexec ssh -F {folder}/ssh_config "$@"\n')
        (folder / "ssh").chmod(0o755)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._ip("link", "add", self._bridge, "type", "bridge")
        self._ip("addr", "add", f"{self._net}.1/24", "dev", self._bridge)
        self._ip("link", "set", self._bridge, "up")
        for name, address in addresses.items():
            self._make(name, address)

    def _make(self, name: str, address: str) -> None:
        flags = ["--net", "--uts", "--mount", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
        script = _INIT.format(name=name, folder=self.folder)
        process = subprocess.Popen(
            ["unshare", *flags, "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
        self._inits[name] = process
        assert process.stdout is not None and process.stdout.readline() == "up\n", f"{name} does not come up"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pid = self._pids[name] = int(children[0])
        self._ip("link", "add", self._link(name), "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._ip("link", "set", self._link(name), "master", self._bridge, "up")
        config = self.folder / f"sshd_{name}"
        config.write_text(_SSHD_CONFIG.format(address=address, folder=self.folder))
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
        commands = f"ip addr add {address}/24 dev eth0 && ip link set eth0 up && exec {sshd} -f {config}"
        subprocess.run(self.on(name, ["sh", "-c", commands]), check=True, capture_output=True)
