"""A private Slurm of several nodes on this machine: real daemons, own ports, key and folder.

Node N is a ``slurmd`` with a host name of its own (UTS and mount namespace), so the tests need root. The daemons
are children of the test process and end with it, whatever ends that.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

__all__ = ["Slurm", "missing"]

_PATIENCE = 60.0
_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "unshare", "setpriv")
_PLUGINS = Path("/usr/lib/x86_64-linux-gnu/pmix2/lib")

_UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "STOPPED", "SUSPENDED", "REQUEUED", "")

_CONF = """
ClusterName=test
FirstJobId={first}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock
CredType=cred/munge
TmpFS={folder}/tmp/%n
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdSpoolDir={folder}/spool/%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
KillWait=5
MinJobAge=300
InactiveLimit=0
ReturnToService=2
SlurmctldTimeout=60
SlurmdTimeout=60
"""


def missing() -> str:
    """Why there can be no Slurm here, empty where there can be one."""
    if os.geteuid() != 0:
        return "nodes with names of their own need root"
    lacking = [name for name in _PROGRAMS if _find(name) is None]
    return f"no {lacking[0]} is installed; .ci/run installs it" if lacking else ""


class Slurm:
    """Start it with `start`, `close` cancels all jobs and ends it. `nodes` nodes of `cpus` each."""

    def __init__(self, nodes: int = 2, cpus: int = 4) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hs-slurm-"))
        self.folder.chmod(0o755)
        self.nodes, self.cpus = nodes, cpus
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._log = open(self.folder / "daemons.log", "ab")  # noqa: SIM115  # as long as the daemons

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a user of this cluster, who is in no job of another."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "SRUN"))}
        return {**clean, "SLURM_CONF": str(self.conf), **(extra or {})}

    def start(self) -> None:
        """Start all daemons and wait until every node is idle."""
        for name in ("state", "spool", "log", "munge", "tmp"):
            (self.folder / name).mkdir(mode=0o755)
        _make_pmix_loadable()
        self._start_munge()
        self._write_conf()
        self._daemon([_path("slurmctld"), "-D", "-c", "-f", str(self.conf)])
        for number in range(1, self.nodes + 1):
            node = (
                f"hostname node{number} && mount --bind {self.folder}/hosts /etc/hosts && "
                f"exec {_path('slurmd')} -D -N node{number} -f {self.conf}"
            )
            self._daemon(["unshare", "--uts", "--mount", "sh", "-c", node])
        limit = time.monotonic() + _PATIENCE
        while self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split() != self.names():
            if time.monotonic() > limit or any(daemon.poll() is not None for daemon in self._daemons):
                raise AssertionError(f"Slurm did not start: {self.logs()}")
            time.sleep(0.05)

    def names(self) -> list[str]:
        return [f"node{number}" for number in range(1, self.nodes + 1)]

    def run(self, *words: str, timeout: float = _PATIENCE) -> str:
        """The output of a command of Slurm, empty where it failed."""
        done = subprocess.run(
            words, env=self.environ(), capture_output=True, text=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else ""

    def submit(
        self, script: Path, options: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None
    ) -> str:
        """Give a script to ``sbatch``; the id of the job."""
        done = subprocess.run(
            ["sbatch", "--parsable", *options, str(script)], env=self.environ(env), cwd=cwd,
            capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().partition(";")[0]

    def wait(self, job: str, timeout: float = 3 * _PATIENCE) -> tuple[str, str]:
        """Wait for the end of a job: its state and exit status, such as ``("COMPLETED", "0:0")``."""
        limit = time.monotonic() + timeout
        while True:
            words = self._show(job)
            state = words.get("JobState", "")
            if state not in _UNFINISHED:
                return state, words.get("ExitCode", "")
            if time.monotonic() > limit:
                self.run("scancel", "--signal=KILL", "--full", job)
                raise AssertionError(f"job {job} is {state} after {timeout} s: {self.logs()}")
            time.sleep(0.1)

    def hasten(self, job: str) -> None:
        """Let a requeued job start in two seconds, not in two minutes.

        Not at once: Slurm counts the time of what it revoked in whole seconds, and would take the new start for the
        old one.
        """
        limit = time.monotonic() + _PATIENCE
        waits = ("PENDING", "COMPLETING", "REQUEUED", "")
        while (words := self._show(job)).get("Restarts") == "0" or words.get("JobState", "") in waits:
            begins = words.get("StartTime", "Unknown")
            if begins != "Unknown" and datetime.fromisoformat(begins) > datetime.now() + timedelta(seconds=5):
                self.run("scontrol", "update", f"jobid={job}", "StartTime=now+2")
            if time.monotonic() > limit:
                raise AssertionError(f"job {job} does not start again: {self.logs()}")
            time.sleep(0.05)

    def state(self, job: str) -> str:
        """How a job stands: ``PENDING``, ``RUNNING``, ..."""
        return self._show(job).get("JobState", "")

    def _show(self, job: str) -> dict[str, str]:
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    def settle(self) -> None:
        """Wait until no job is left, cancelling what there is."""
        self.run("scancel", "--signal=KILL", "--full", *self.jobs())
        limit = time.monotonic() + _PATIENCE
        while jobs := self.jobs():
            self.run("scancel", *jobs)
            if time.monotonic() > limit:
                raise AssertionError(f"jobs {jobs} do not end: {self.logs()}")
            time.sleep(0.1)

    def jobs(self) -> list[str]:
        return self.run("squeue", "-h", "-o", "%A").split()

    def logs(self) -> str:
        """The last lines of what the daemons wrote."""
        texts = [path.read_text(errors="replace")[-2000:] for path in sorted((self.folder / "log").glob("*"))]
        return "\n".join([(self.folder / "daemons.log").read_text(errors="replace")[-2000:], *texts])

    def close(self) -> None:
        """End everything and remove the folder."""
        try:
            if self._daemons:
                self.settle()
        finally:
            for daemon in reversed(self._daemons):
                daemon.terminate()
            for daemon in reversed(self._daemons):
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
            self._log.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        self._daemon([
            _path("munged"), "--foreground", "--force", "--num-threads=2", f"--key-file={key}",
            f"--socket={folder}/sock", f"--pid-file={folder}/pid", f"--seed-file={folder}/seed",
            f"--log-file={self.folder}/log/munge.log",
        ])  # fmt: skip
        limit = time.monotonic() + _PATIENCE
        while not (folder / "sock").exists():
            if time.monotonic() > limit or self._daemons[-1].poll() is not None:
                raise AssertionError(f"munged did not start: {self.logs()}")
            time.sleep(0.02)

    def _write_conf(self) -> None:
        host = socket.gethostname().partition(".")[0]
        port, *ports = _free_ports(self.nodes + 1)
        hosts = Path("/etc/hosts").read_text()
        # MPICH names shared memory by job and step: those of another cluster, alive or killed, must not meet ours.
        first = 1000 + int.from_bytes(os.urandom(3))
        lines = [_CONF.format(host=host, port=port, folder=self.folder, first=first)]
        for number, slurmd in enumerate(ports, 1):
            name, address = f"node{number}", f"127.0.1.{number}"
            hosts += f"{address} {name}\n"
            (self.folder / "tmp" / name).mkdir()
            (self.folder / "tmp" / name).chmod(0o1777)
            lines.append(
                f"NodeName={name} NodeHostname={name} NodeAddr={address} Port={slurmd} CPUs={self.cpus} Boards=1 "
                f"SocketsPerBoard=1 CoresPerSocket={self.cpus} ThreadsPerCore=1 RealMemory=1000 State=UNKNOWN\n"
            )
        lines.append(
            f"PartitionName=test Nodes=node[1-{self.nodes}] Default=YES MaxTime=INFINITE DefaultTime=10 State=UP\n"
        )
        self.conf.write_text("".join(lines))
        (self.folder / "hosts").write_text(hosts)

    def _daemon(self, words: Sequence[str]) -> None:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *words], env=self.environ(),
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        self._daemons.append(process)


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _path(name: str) -> str:
    found = _find(name)
    assert found is not None
    return found


def _make_pmix_loadable() -> None:
    """Slurm's plugin opens the name of the development package, which Debian's plain one has not."""
    if (_PLUGINS / "libpmix.so.2").exists() and not (_PLUGINS / "libpmix.so").exists():
        (_PLUGINS / "libpmix.so").symlink_to("libpmix.so.2")


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the system gives to outgoing connections."""
    found: list[int] = []
    offset = os.getpid() * 7 % 8000
    for step in range(8000):
        port = 18000 + (offset + step) % 8000
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")
