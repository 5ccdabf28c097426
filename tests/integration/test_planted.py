"""Files in the current folder with the names of modules: nothing that we start imports them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.integration.test_net import wait_for_file
from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, clean_environ, each_mpi, launch


@pytest.fixture
def planted(hs: Hs) -> Path:
    """What tells of each planted module that ran: all that could be imported are planted, and ``hypershell``."""
    ran = hs.folder / "ran"
    names = {*sys.stdlib_module_names, *packages_distributions(), "hypershell", "sitecustomize", "usercustomize"}
    for name in names:
        (hs.folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write(__name__ + chr(10))\n")
    hs.file(["echo $TASK_ID >>tasks.out"] * 4)
    return ran


def program(python: str, name: str = "hs") -> str:
    """The command as pip has installed it."""
    return str(Path(python).parent / name)


def run(hs: Hs, words: Sequence[str | Path], **env: str) -> subprocess.CompletedProcess[str]:
    environ = clean_environ({**hs.environ(), **env})
    return subprocess.run(
        words, cwd=hs.folder, env=environ, capture_output=True, text=True, check=False, timeout=90
    )


def assert_untouched(hs: Hs, done: subprocess.CompletedProcess[str], planted: Path) -> None:
    assert done.returncode == 0, done.stderr
    assert not planted.exists(), planted.read_text()
    assert len((hs.folder / "tasks.out").read_text().split()) == 4


def test_planted_modules_would_run(hs: Hs, planted: Path) -> None:
    run(hs, [sys.executable, "-c", "import msgspec"])
    assert "msgspec" in planted.read_text().split()


@each_mpi()
def test_ranks_of_hs_mpi_import_nothing_from_the_current_folder(hs: Hs, planted: Path, mpi: Mpi) -> None:
    done = run(hs, [program(mpi.python), "mpi", "-n", "2", "tasks.in", "--startup-report"])
    assert_untouched(hs, done, planted)


@each_mpi()
def test_ranks_of_a_bundle_import_nothing_from_the_current_folder(
    hs: Hs, planted: Path, mpi: Mpi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundle = tmp_path_factory.mktemp("bundle") / "hs.pyz"
    assert run(hs, [program(mpi.python), "bundle", bundle]).returncode == 0
    assert_untouched(hs, run(hs, [mpi.python, bundle, "mpi", "-n", "2", "tasks.in"]), planted)


def test_a_cluster_and_what_looks_at_it(hs: Hs, planted: Path) -> None:
    assert_untouched(hs, run(hs, [program(sys.executable), "cluster", "tasks.in", "--capture"]), planted)
    for words in (["list", "--json"], ["runs"], ["export", "out.h5"], ["initdb", "--vacuum", "--yes"]):
        assert_untouched(hs, run(hs, [program(sys.executable), *words]), planted)


def test_a_server_and_a_client_whose_locale_is_not_utf_8(hs: Hs, planted: Path) -> None:
    """With such a locale the program starts itself again."""
    words = [program(sys.executable), "server", "tasks.in", "--port", "0", "--connect-file", "c.json"]
    process = subprocess.Popen(words, cwd=hs.folder, env=hs.environ(), stderr=subprocess.PIPE)
    try:
        wait_for_file(hs.folder / "c.json", process)
        environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        done = run(hs, [program(sys.executable), "client", "--connect", "c.json"], **environ)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert_untouched(hs, done, planted)


@each_mpi(only="mpich")
def test_python_m_imports_from_there_only_before_our_first_line(hs: Hs, planted: Path, mpi: Mpi) -> None:
    """As the pages say; what `runpy` itself imports is beyond us."""
    code = "import runpy, sys; print(*sys.modules)"
    before = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    for name in {*before.split(), "hypershell"}:
        (hs.folder / f"{name}.py").unlink(missing_ok=True)
    done = launch(mpi, 2, ["-m", "hypershell", "mpi", "tasks.in"], hs.environ(), cwd=hs.folder)
    assert done.status == 0, done.stderr
    assert not planted.exists(), planted.read_text()


@each_mpi(only="mpich")
def test_a_task_has_a_python_as_the_user_has_it(hs: Hs, mpi: Mpi) -> None:
    """Safe paths are ours alone: a task imports from its folder, and from PYTHONPATH."""
    (hs.folder / "here.py").write_text("print('here', flush=True)\n")
    elsewhere = hs.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "there.py").write_text("")
    hs.file([f"{sys.executable} -c 'import here, there, sys; print(sys.flags.safe_path)'"])
    path = f"{elsewhere}:{clean_environ()['PYTHONPATH']}"
    done = run(hs, [program(mpi.python), "mpi", "-n", "2", "tasks.in"], PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["here", "False"]
