"""The shape of the program as a test: who may import whom, what is pure, how long things may be."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hypershell"

#: Lower layers know nothing of higher ones; parts of one layer know nothing of each other (``proto`` names the
#: records of ``core``). Modules beside the packages are the ground.
LAYERS = [{"core"}, {"proto"}, {"executor", "data", "mpi", "net"}, {"server", "cluster"}, {"apps"}, {"__main__"}]
LEVEL = {name: level for level, names in enumerate(LAYERS, 1) for name in names}

#: Modules that decide, and so neither block, nor tell time, nor draw, nor read or write.
PURE = ["core", "proto", "executor/machine.py", "executor/vocabulary.py", "executor/held.py", "executor/ladder.py",
        "executor/packing.py", "executor/unconfirmed.py", "executor/unseen.py", "executor/headroom.py",
        "executor/reports.py",
        "units.py", "tags.py", "lines.py", "ostext.py", "template.py", "shellplaces.py", "shellwords.py",
        "cmdplaces.py", "errors.py"]  # fmt: skip
PURE_IMPORTS = {"__future__", "collections", "collections.abc", "dataclasses", "enum", "functools", "heapq",
                "itertools", "math", "msgspec", "msgspec.structs", "operator", "re", "typing"}  # fmt: skip
#: ``{= =}`` of a template may name these modules; paths are cut by ``os.path``. A session compares proofs,
#: and text of bytes quotes words as the shell does.
PURE_EXTRA = {"template.py": {"os", "os.path", "datetime"}, "proto/session.py": {"hmac"}, "ostext.py": {"shlex"}}
IMPURE_CALLS = {"open", "input", "exec", "__import__", "breakpoint"}

#: Foreign package -> the only folder that imports it.
OWNERS = {"mpi4py": "mpi", "socket": "net", "ssl": "net", "sqlalchemy": "data", "sqlite3": "data"}

#: ``wake.py`` has two sockets that are joined to each other and to no network.
ALSO = {"net": ["wake.py"]}

#: What costs start-up time, and so is imported where it is used, when it is used.
HEAVY = ["sqlalchemy", "mpi4py", "rich", "h5py", "numpy", "pyarrow", "psutil", "cryptography", "cmdkit", "ssl",
         "asyncio"]  # fmt: skip
#: These hold schema and queries; they are imported lazily by others.
SQL = {"additions", "again", "bulk", "change", "chosen", "clients", "columns", "connected", "counting", "engine",
       "export", "formerly", "hdf5", "lines", "migrate", "outliving", "outputs", "ownership", "packed",
       "parquet", "partitions", "postgres_upkeep", "printed", "query", "reading", "requests", "restore", "rows",
       "runs", "schema", "single", "sql", "submit", "unfit", "walk", "where"}  # fmt: skip
#: Imported by those who read configuration, when they do; it is built on cmdkit.
LATE = {"hypershell.config"} | {f"hypershell.data.{module}" for module in SQL}
PARTS = ["", "core", "proto", "executor", "data", "mpi", "net", "server", "cluster", "apps"]

#: A guard against heaps, not a measure of quality: cut a file where an idea ends.
MOST_LINES = 600
MOST_FUNCTION_LINES = 70
#: Longer for a reason.
LONG: dict[str, int] = {}


class Import(NamedTuple):
    """`whole` is what follows ``import`` or ``from``; `line` where."""

    whole: str
    line: int
    checking: bool
    """Only for the type checker."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def files(folder: Path = PACKAGE) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if path.is_file())


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, lazy ones too; names of ``from hypershell import x`` count as modules."""
    checking = {
        inner
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, node in checking)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: imports are written in full"
            module = node.module or ""
            if module in ("hypershell", *(f"hypershell.{part}" for part in LEVEL)):
                for alias in node.names:
                    yield Import(f"{module}.{alias.name}", node.lineno, node in checking)
            else:
                yield Import(module, node.lineno, node in checking)


def part_of(module: str) -> str:
    """``core`` of ``hypershell.core.model``."""
    return module.split(".")[1]


def is_pure(path: Path) -> bool:
    inside = path.relative_to(PACKAGE).as_posix()
    return any(inside == pure or inside.startswith(f"{pure}/") for pure in PURE)


def test_the_files_are_there() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in files()}
    assert {"core/scheduler.py", "proto/codec.py", "executor/machine.py", "template.py", "mpi/world.py"} <= found


def test_imports_point_one_way() -> None:
    wrong = []
    for path in files():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for one in imports(path):
            if not one.whole.startswith("hypershell."):
                continue
            other = part_of(one.whole)
            below = LEVEL.get(other, 0) < LEVEL.get(own, 0)
            if other != own and not below and (own in LEVEL or other in LEVEL):
                wrong.append(f"{name(path)}:{one.line}: {own} imports {one.whole}")
    assert wrong == []


def test_pure_modules_import_only_what_is_pure() -> None:
    wrong = []
    for path in filter(is_pure, files()):
        allowed = PURE_IMPORTS | PURE_EXTRA.get(path.relative_to(PACKAGE).as_posix(), set())
        for one in imports(path):
            if one.whole.startswith("hypershell."):
                target = PACKAGE.joinpath(*one.whole.split(".")[1:])
                candidates = [target.with_suffix(".py"), target.parent.with_suffix(".py"), target / "__init__.py"]
                pure = any(candidate.is_file() and is_pure(candidate) for candidate in candidates)
            else:
                pure = one.whole in allowed
            if not pure:
                wrong.append(f"{name(path)}:{one.line}: {one.whole}")
    assert wrong == []


def test_pure_modules_do_nothing_outside() -> None:
    wrong = [
        f"{name(path)}:{node.lineno}: {node.func.id}()"
        for path in filter(is_pure, files())
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS
    ]
    assert wrong == []


def test_each_foreign_package_has_one_owner() -> None:
    wrong = []
    for path in files():
        folder = path.relative_to(PACKAGE).parts[0]
        for one in imports(path):
            owner = OWNERS.get(one.whole.split(".")[0])
            if owner is not None and folder not in (owner, *ALSO.get(owner, ())) and not one.checking:
                wrong.append(f"{name(path)}:{one.line}: {one.whole} belongs into {owner}/")
    assert wrong == []


def test_the_core_never_walks_over_a_set() -> None:
    """The order of a set of texts differs from process to process."""

    def is_set(node: ast.expr) -> bool:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return node.func.id in ("set", "frozenset")
        return isinstance(node, ast.Set | ast.SetComp)

    wrong = []
    for path in files(PACKAGE / "core"):
        for node in ast.walk(tree(path)):
            walked = [node.iter] if isinstance(node, ast.For | ast.comprehension) else []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("list", "tuple"):
                walked += node.args
            wrong += [f"{name(path)}:{one.lineno}" for one in walked if is_set(one)]
    assert wrong == []


def test_no_file_is_longer_than_a_head_can_hold() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    wrong = [f"{path}: {lines}" for path, lines in lengths.items() if lines > LONG.get(path, MOST_LINES)]
    assert wrong == []
    assert [path for path in LONG if lengths[path] <= MOST_LINES] == []


def test_no_function_is_longer_than_a_page() -> None:
    wrong = []
    for path in [*files(), *files(ROOT / "tests"), *files(ROOT / "benchmarks")]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_FUNCTION_LINES:
                    wrong.append(f"{name(path)}:{node.lineno}: {node.name} has {lines} lines")
    assert wrong == []


def test_modules_say_what_they_own_and_future_is_imported() -> None:
    wrong = []
    for path in files():
        body = tree(path).body
        if path.name == "__init__.py" and len(body) < 3:
            continue
        if not ast.get_docstring(tree(path)):
            wrong.append(f"{name(path)}: no docstring")
        if path.name == "__main__.py":  # it imports nothing before it has left the current folder
            continue
        if len(body) > 1 and not any(one.whole == "__future__" for one in imports(path)):
            wrong.append(f"{name(path)}: no import of annotations")
    assert wrong == []


# Imports every module named on the command line and prints as JSON what that did besides.
_PROBE = """
import json, os, signal, sys, threading
import importlib
done = []
def hook(event, args):
    if event == "open":
        flags = args[2] if isinstance(args[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            done.append(f"opens {args[0]} to write")
    elif event.startswith(("socket.", "subprocess.", "sqlite3.", "os.mkdir", "os.fork", "os.posix_spawn", "os.exec",
                           "os.system", "os.putenv", "os.kill", "os.remove", "os.rename", "os.chdir", "shutil.")):
        done.append(event)
sys.addaudithook(hook)
environ, handlers = dict(os.environ), [signal.getsignal(n) for n in signal.valid_signals()]
for module in sys.argv[2:]:
    importlib.import_module(module)
if dict(os.environ) != environ:
    done.append("changes the environment")
if [signal.getsignal(n) for n in signal.valid_signals()] != handlers:
    done.append("installs signal handlers")
if threading.active_count() > 1:
    done.append("starts threads")
done += [f"imports {name}" for name in sys.argv[1].split(",") if name in sys.modules]
print(json.dumps(done))
"""


def modules(part: str) -> list[str]:
    """The modules of a package, or those beside the packages."""
    found = files(PACKAGE / part) if part else [path for path in PACKAGE.glob("*.py") if path.name != "__main__.py"]
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in sorted(found)]
    return [module.removesuffix(".__init__") for module in names]


@pytest.mark.parametrize("part", PARTS)
def test_importing_does_nothing(part: str) -> None:
    wanted = [module for module in modules(part) if module not in LATE]
    command = [sys.executable, "-B", "-c", _PROBE, ",".join(HEAVY), *wanted]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == []
    assert told.stderr == ""
