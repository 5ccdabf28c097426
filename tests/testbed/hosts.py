"""Several hosts on this machine, each with its own network, name, processes and address, whose links can be cut.

Each is a set of Linux namespaces; all hang on a bridge in a namespace of its own, so nothing of this machine's
network is touched and several sets can be up at once. The file system is shared, process ids repeat, as
on a cluster. Needs root, and ``ip``, ``unshare`` and ``nsenter``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

__all__ = ["PATIENCE", "Hosts", "inner", "why_not"]

#: The first process of a host: it tells its name, and takes in what loses its parent.
_INIT = """
hostname "$1" && mount --bind "$2" /etc/hosts && mount -t tmpfs none /dev/shm && ip link set lo up && echo up
while :; do sleep 100000 & wait $!; done
"""

#: Seconds for a host to come up, or for processes to go.
PATIENCE = 60.0


def why_not() -> str | None:
    """Why there can be no hosts here; None: there can."""
    for program in ("ip", "unshare", "nsenter", "hostname", "mount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "one", "type", "veth", "peer", "name", "other"],
        capture_output=True,
        check=False,
    )
    return f"no network namespaces: {tried.stderr.decode().strip()}" if tried.returncode else None


def inner(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The program that `Hosts.on` wraps, once it has started: the one to send signals to."""
    until = time.monotonic() + PATIENCE
    wrapper = psutil.Process(process.pid)
    while not (children := wrapper.children()):
        assert process.poll() is None and time.monotonic() < until, "the program did not start"
        time.sleep(0.01)
    return children[0]


class Hosts:
    """Hosts `names`, which know each other by name; files in `folder`."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.addresses = {name: f"10.77.0.{10 + number}" for number, name in enumerate(names)}
        self._inits: dict[str, int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._table = folder / "hosts"
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self.addresses.items())]
        self._table.write_text("".join(f"{line}\n" for line in lines))
        try:
            self._hub = self._start(["unshare", "--net", "sh", "-c", "echo up; exec sleep 1000000"])
            self._in_hub("ip", "link", "add", "hub", "type", "bridge")
            self._in_hub("ip", "link", "set", "hub", "up")
            for name in names:
                self._add(name)
        except BaseException:
            self.close()
            raise

    def on(self, name: str, folder: Path, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in `folder` of host `name`."""
        spaces = ["-n", "-u", "-m", "-i", "-p"]
        there = ["sh", "-c", 'cd "$0" && exec "$@"', str(folder)]
        return ["nsenter", "-t", str(self._inits[name]), *spaces, "--", *there, *command]

    def cut(self, name: str) -> None:
        """Pull the cable: nothing passes, and nobody is told."""
        self._in_hub("ip", "link", "set", f"to-{name}", "down")

    def mend(self, name: str) -> None:
        """Plug it in again."""
        self._in_hub("ip", "link", "set", f"to-{name}", "up")

    def crash(self, name: str) -> None:
        """End all processes of a host at once, without a word to anybody: the cable goes first."""
        self.cut(name)
        os.kill(self._inits.pop(name), signal.SIGKILL)

    def close(self) -> None:
        """Everything ends; idempotent."""
        for process in reversed(self._processes):
            process.kill()
            process.communicate()
        self._processes.clear()

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def processes(self, name: str, word: str) -> list[int]:
        """Processes of a host with `word` in their command lines, as this machine numbers them."""
        found = []
        place = os.readlink(f"/proc/{self._inits[name]}/ns/pid")
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
        until = time.monotonic() + PATIENCE
        while self.processes(name, word):
            assert time.monotonic() < until, f"{word} still runs on {name}"
            time.sleep(0.05)

    def _start(self, command: Sequence[str]) -> int:
        """A process that stays; gives its id when it has said that it is up."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n", f"{command} did not start"
        return process.pid

    def _add(self, name: str) -> None:
        spaces = ["--net", "--uts", "--mount", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
        outer = self._start(["unshare", *spaces, "sh", "-c", _INIT, "init", name, str(self._table)])
        self._inits[name] = init = psutil.Process(outer).children()[0].pid
        self._in_hub("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(init))
        self._in_hub("ip", "link", "set", f"to-{name}", "master", "hub", "up")
        for words in (
            ["addr", "add", f"{self.addresses[name]}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
        ):
            self._run(["nsenter", "-t", str(init), "-n", "ip", *words])

    def _in_hub(self, *command: str) -> None:
        self._run(["nsenter", "-t", str(self._hub), "-n", *command])

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert done.returncode == 0, (command, done.stderr.decode())
