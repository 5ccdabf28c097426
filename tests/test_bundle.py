"""``hs bundle``: one file that is the program, what it takes from elsewhere, and how few files a rank opens."""

from __future__ import annotations

import marshal
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

import hypershell
from hypershell.apps.bundle import write_bundle
from hypershell.apps.bundle_entry import INDEX
from hypershell.errors import UsageError
from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, clean_environ, each_mpi, launch


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the bundle of a Python, which is made once."""

    @cache
    def make(python: str) -> Path:
        path = tmp_path_factory.mktemp("bundle") / "hs.pyz"
        command = [python, "-m", "hypershell", "bundle", str(path)]
        subprocess.run(command, env=clean_environ(), check=True, capture_output=True)
        return path

    return make


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path]) -> Path:
    """A bundle for the Python of the tests."""
    return bundle_of(sys.executable)


def run(
    words: list[str | Path], folder: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Without the checkout on the path."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ = {**clean, "HYPERSHELL_SITE": str(folder / "site"), **(env or {})}
    return subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_the_file_is_the_program(bundle: Path, tmp_path: Path) -> None:
    done = run([bundle, "--version"], tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(f"HyperShell v{hypershell.__version__}"), done.stderr
    (tmp_path / "tasks.in").write_text("echo 1\necho 2\n")
    done = run([sys.executable, os.path.relpath(bundle, tmp_path), "cluster", "tasks.in"], tmp_path)
    assert (done.returncode, sorted(done.stdout.split())) == (0, ["1", "2"]), done.stderr
    assert run([bundle, "list", "--count"], tmp_path).stdout == "2\n"


def test_it_holds_all_of_ours_and_records_where_the_compiled_packages_are(bundle: Path) -> None:
    package = Path(hypershell.__file__).parent
    index = marshal.loads(zipfile.ZipFile(bundle).read(INDEX))
    names = {path.relative_to(package.parent).as_posix() for path in package.rglob("*.py")}
    assert names <= {entry[1] for entry in index["modules"].values()}
    assert {"cmdkit", "rich.table", "tomlkit"} <= set(index["modules"])
    assert not {"msgspec", "mpi4py", "pytest"} & {name.partition(".")[0] for name in index["modules"]}
    assert any((Path(path) / "msgspec").is_dir() for path in index["paths"])


def test_another_interpreter_finds_the_compiled_packages_by_their_path(bundle: Path, tmp_path: Path) -> None:
    """As one that has no packages of its own would: without the module `site`."""
    code = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = run([sys.executable, "-I", "-S", "-c", code, bundle, "cluster", "--help"], tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("usage: hs cluster"), done.stderr


def test_an_interpreter_of_another_version_is_refused_by_name(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pyz"
    index = marshal.loads(zipfile.ZipFile(bundle).read(INDEX))
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(other, "w") as target:
        target.writestr("__main__.py", source.read("hypershell/apps/bundle_entry.py"))
        target.writestr(INDEX, marshal.dumps({**index, "made_for": "cpython-27"}))
    done = run([sys.executable, other, "--version"], tmp_path)
    assert done.returncode == 1 and "was made for cpython-27, this is" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_tracebacks_show_the_source(bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from zipimport import zipimporter; sys.path.insert(0, sys.argv[1])\n"
        "import hypershell.apps.bundle_entry as entry; entry.start(zipimporter(sys.argv[1]))\n"
        "import inspect, hypershell.tags, hypershell.proto as proto\n"
        "print(hypershell.tags.__file__, inspect.getsource(hypershell.tags).count('def '), proto.__path__)\n"
    )
    done = run([sys.executable, "-c", code, bundle], tmp_path)
    assert done.returncode == 0, done.stderr
    count = (Path(hypershell.__file__).parent / "tags.py").read_text().count("def ")
    assert done.stdout.split()[:2] == [f"{bundle}/hypershell/tags.py", str(count)]


def test_a_file_that_is_no_bundle_is_left_alone(hs: Hs) -> None:
    notes = hs.folder / "notes"
    notes.write_text("mine")
    with pytest.raises(UsageError, match="is there and no bundle"):
        write_bundle(notes)
    assert notes.read_text() == "mine"
    with pytest.raises(UsageError, match="cannot write"):
        write_bundle(hs.folder / "no" / "such" / "folder.pyz")
    done = hs.run("bundle")
    assert done.status == 2 and "OUT" in done.err
    assert sorted(path.name for path in hs.folder.iterdir()) == ["notes"]


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077], ids=oct)
def test_nobody_else_may_write_a_bundle(hs: Hs, umask: int) -> None:
    """Also in a folder that hands its group down; a stricter umask counts."""
    hs.folder.chmod(0o2775)
    before = os.umask(umask)
    try:
        write_bundle(hs.folder / "hs.pyz")
    finally:
        os.umask(before)
    assert stat.S_IMODE((hs.folder / "hs.pyz").stat().st_mode) == 0o755 & ~umask


# Reports every file that the process opens, through open(), os.open() or an import.
_COUNTER = """
import atexit, json, os, sys
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        opened.append(os.fsdecode(args[0]))
sys.addaudithook(hook)
def tell():
    if "mpi" in sys.argv:
        lines = list(opened)
        with open(f"{os.environ['COUNT_IN']}/{os.getpid()}", "w") as out:
            json.dump(lines, out)
atexit.register(tell)
"""


def opened_by_rank_1(hs: Hs, mpi: Mpi, words: list[str], name: str) -> list[str]:
    """The files that rank 1 opens from its start to its end, in a run of two tasks."""
    import json

    counts = hs.folder / name
    counts.mkdir()
    hs.file([f"echo $PPID >>{counts}/ranks"] * 2)
    (counts / "sitecustomize.py").write_text(_COUNTER)
    env = {"PYTHONPATH": f"{counts}", "COUNT_IN": str(counts), "HYPERSHELL_SITE": str(hs.site)}
    if words[0] == "-m":
        env["PYTHONPATH"] += os.pathsep + str(Path(hypershell.__file__).parents[1])
    done = launch(mpi, 2, [*words, "mpi", "tasks.in", "--no-db"], env, cwd=hs.folder)
    assert done.status == 0, done.stderr
    (rank,) = set((counts / "ranks").read_text().split())
    return list(json.loads((counts / rank).read_text()))


@each_mpi()
def test_a_rank_opens_the_bundle_instead_of_its_many_files(
    hs: Hs, mpi: Mpi, bundle_of: Callable[[str], Path]
) -> None:
    package = str(Path(hypershell.__file__).parent)
    path = bundle_of(mpi.python)
    before = opened_by_rank_1(hs, mpi, ["-m", "hypershell"], "before")
    after = opened_by_rank_1(hs, mpi, [str(path)], "after")
    ours = [name for name in before if name.startswith(package)]
    pyz = [name for name in after if "hs.pyz" in name]
    print(f"{mpi.name}: {len(before)} opened, {len(ours)} of them ours; bundle: {len(after)}, {len(pyz)} of it")
    assert len(ours) > 30
    assert [name for name in after if name.startswith(package)] == []
    assert 1 <= len(pyz) <= 6
    assert len(after) <= len(before) - len(ours) + 6


@each_mpi()
def test_hs_mpi_from_a_bundle_starts_its_ranks_from_it(
    hs: Hs, mpi: Mpi, bundle_of: Callable[[str], Path]
) -> None:
    path = bundle_of(mpi.python)
    hs.file(["tr '\\0' ' ' </proc/$PPID/cmdline; echo"])
    env = {"OMPI_MCA_btl": "^ofi", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = run([path, "mpi", "-n", "2", "tasks.in"], hs.folder, env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:4] == ["-P", str(path), "mpi"]
