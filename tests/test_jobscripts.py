"""The job scripts: their shell, their options against the real parser, and what they do with a status file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hypershell.apps.parse_net import parse_client, parse_mpi
from hypershell.apps.parse_task import parse_submit
from tests.testbed.mpi import ROOT

SCRIPTS = sorted((ROOT / "jobscripts").glob("*.sh"))
RESUBMIT = [path for path in SCRIPTS if path.stem.endswith("-resubmit")]
SCHEDULERS = {"slurm", "pbs", "lsf", "flux", "sge"}

#: What stands for the commands of all schedulers: it notes how it was called, and starts what a launcher starts.
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$LOG"
while [ $# -gt 0 ]; do
    if [ "$1" = hs ]; then exec "$@"; fi
    shift
done
if [ "$(basename "$0")" = bsub ]; then cat >"$LOG.bsub"; fi
echo "HS_DIED=$HS_DIED" >>"$LOG"
"""
#: Notes its arguments one in a line, and leaves the status file that it finds.
HS = """#!/bin/sh
printf '%s\\n' "$@" >"$LOG.hs"
if [ -e made.json ]; then mv made.json status.json; fi
exit 1
"""


def ids(path: Path) -> str:
    return path.stem


class Folder:
    """A directory of submission, with stand-ins for all that a script calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        programs = folder / "bin"
        programs.mkdir()
        for name in ("srun", "mpirun", "flux", "sbatch", "qsub", "bsub"):
            self._program(name, STAND_IN)
        self._program("hs", HS)
        (folder / "tasks.in").write_text("true\n")

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, script: Path, **env: str) -> subprocess.CompletedProcess[str]:
        shutil.copy(script, self.folder)
        self.log.unlink(missing_ok=True)
        self.log.touch()
        environ = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "LOG": str(self.log),
                   "PBS_O_WORKDIR": str(self.folder), "NSLOTS": "8", **env}  # fmt: skip
        elsewhere = Path("/") if script.stem.startswith("pbs") else self.folder  # PBS starts jobs at home
        return subprocess.run(["sh", str(self.folder / script.name)], cwd=elsewhere, env=environ, text=True,
                              capture_output=True, timeout=60, check=False)  # fmt: skip

    def arguments(self) -> list[str]:
        return (self.folder / "log.hs").read_text().splitlines()

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("HYPERSHELL_SITE", str(tmp_path / "site"))
    return Folder(tmp_path)


def test_there_is_one_of_each_kind_for_each_scheduler() -> None:
    kinds = {"mpi", "resubmit", "hybrid"}
    assert {path.stem for path in SCRIPTS} == {f"{one}-{kind}" for one in SCHEDULERS for kind in kinds}
    page = (ROOT / "jobscripts" / "README.md").read_text()
    assert [path.name for path in SCRIPTS if f"({path.name})" not in page] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=ids)
def test_the_shell_accepts_it(script: Path) -> None:
    assert script.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(script)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(script)], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=ids)
def test_every_option_is_one_of_hs(script: Path, folder: Folder) -> None:
    folder.run(script)
    command, *rest = folder.arguments()
    assert command == "mpi"
    settings, door, _ = parse_mpi(rest)
    assert settings.file == "tasks.in" and settings.restart
    assert settings.status_file is not None if script in RESUBMIT else settings.status_file is None
    assert (door.door is None) == (not script.stem.endswith("-hybrid"))
    # Grid Engine does not tell when a job ends.
    assert (settings.walltime is not None) == script.stem.startswith("sge")
    for line in script.read_text().splitlines():
        for name, words in re.findall(r"^#\s+hs (\w+) (.*)", line):
            {"client": parse_client, "submit": parse_submit}[name](words.split())


@pytest.mark.parametrize("script", RESUBMIT, ids=ids)
def test_a_script_submits_itself_while_there_is_progress(script: Path, folder: Folder) -> None:
    name = script.stem.partition("-")[0]
    submitter = {"slurm": "sbatch", "pbs": "qsub", "sge": "qsub", "lsf": "bsub", "flux": "flux"}[name]

    def submitted(status: int | None, succeeded: int = 0, failed: int = 0, **env: str) -> tuple[bool, int, str]:
        made = {"state": "ended", "exit_status": status, "succeeded": succeeded, "failed": failed, "cancelled": 0}
        (folder.folder / "made.json").write_text(json.dumps(made, indent=2))
        done = folder.run(script, **env)
        again = [line for line in folder.calls() if line.startswith(submitter) and "hs mpi" not in line]
        assert len(again) < 2
        return bool(again), done.returncode, " ".join(folder.calls())

    again, _, calls = submitted(75, succeeded=3)
    assert again and "HS_DIED=0" in calls
    assert submitted(75, failed=1)[0]
    assert submitted(75)[:2] == (False, 75)
    assert submitted(0, succeeded=3)[:2] == (False, 0)
    assert submitted(7, succeeded=3, failed=1)[:2] == (False, 7)
    again, _, calls = submitted(None)
    assert again and "HS_DIED=1" in calls
    assert "HS_DIED=3" in submitted(None, HS_DIED="2")[2]
    assert submitted(None, HS_DIED="3")[:2] == (False, 1)
    assert "HS_DIED=0" in submitted(75, succeeded=3, HS_DIED="2")[2]
    if name == "lsf":
        assert (folder.folder / "log.bsub").read_text() == script.read_text()
    else:
        assert script.name in calls


@pytest.mark.parametrize("script", RESUBMIT, ids=ids)
def test_the_file_of_an_earlier_job_does_not_count(script: Path, folder: Folder) -> None:
    """A job whose command could not even start says nothing, and that is no sign to go on for ever."""
    (folder.folder / "status.json").write_text('{\n  "exit_status": 0,\n}\n')
    assert folder.run(script, HS_DIED="3").returncode == 1
    assert not (folder.folder / "status.json").exists()
