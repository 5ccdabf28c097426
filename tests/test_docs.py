"""The documents against the program: commands parse, links resolve, tables and diagram are those of the code."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypershell.apps.frame import EndEarly, parse_arguments
from hypershell.core.states import diagram
from hypershell.errors import UsageError
from hypershell.options import COMMANDS, ENV_PREFIX, EXPORT_PREFIX, OPTIONS
from hypershell.options.reserved import RESERVED_FLAGS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "SECURITY")), *DOCS.rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

PROGRAMS = frozenset({"hs", "hsx", "hyper-shell"})
KNOWN = frozenset(command.name for command in COMMANDS)
VALUED = frozenset(flag for option in OPTIONS if not option.is_switch for flag in option.flags)
STOPS = re.compile(r"^[|&;<>()]+$")

#: Words that stand for something, as in a line of help: nothing to parse.
ABSTRACT = re.compile(r"[…\[\]{}]|\.\.\.|^[A-Z]{3,}$")


def commands_in(text: str) -> Iterator[list[str]]:
    """Every command of ours in a piece of shell, as words without the program; redirections end it."""
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:  # prose with an apostrophe
        words = text.split()
    for place, word in enumerate(words):
        program = word.rpartition("/")[2]
        if program in PROGRAMS and not (place and words[place - 1].startswith("-")):
            end = next((i for i in range(place, len(words)) if STOPS.match(words[i])), len(words))
            yield ["cluster", *words[place + 1 : end]] if program == "hsx" else words[place + 1 : end]


def blocks_of(page: str) -> Iterator[str]:
    """The lines of all code blocks, fenced or indented; continued lines are joined."""
    fenced = False
    for line in page.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line


def spans_of(page: str) -> list[str]:
    """Code inside of text."""
    outside = re.sub(r"(?ms)^\s*```.*?^\s*```", "", page)
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", outside)


def check_command(words: list[str]) -> None:
    """Parse it as the program does; raises `UsageError` or `AssertionError` where it would be refused."""
    if not words or words[0].startswith("-"):
        assert words in ([], ["--help"], ["--version"], ["--citation"], ["-h"], ["-v"])
        return
    name, *rest = words
    if name == "task" and rest:
        name, *rest = rest
    if ABSTRACT.search(name):
        return
    assert name in KNOWN, f"there is no command hs {name}"
    try:
        parse_arguments(name, [word for word in rest if word != "…"])
    except EndEarly:
        pass  # its help


@pytest.mark.parametrize("name", NAMES)
def test_every_command_in_a_code_block_parses(name: str) -> None:
    for line in blocks_of((ROOT / name).read_text(encoding="utf-8")):
        if line.lstrip().startswith(("usage:", "'hs ")) or "'hs COMMAND" in line:
            continue
        for words in commands_in(line):
            try:
                check_command(words)
            except (UsageError, AssertionError) as error:
                pytest.fail(f"{name}: {line.strip()}: {error}")


@pytest.mark.parametrize("name", NAMES)
def test_every_command_inside_text_parses(name: str) -> None:
    for span in spans_of((ROOT / name).read_text(encoding="utf-8")):
        for words in commands_in(span):
            if not words or words[0] not in KNOWN or any(ABSTRACT.search(word) for word in words):
                continue
            value = ["1"] if words[-1] in VALUED else []  # `hs mpi -n` names the option alone
            try:
                check_command(words + value)
            except (UsageError, AssertionError) as error:
                pytest.fail(f"{name}: `{span}`: {error}")


def test_the_checker_finds_commands_and_refuses_what_is_wrong() -> None:
    found = list(commands_in("A=1 mpirun -n 4 hs mpi tasks.in -N 2 | head; env/bin/hsx x -t 'echo {} >o' >out"))
    assert list(commands_in("conda create -n hs python")) == []
    assert found == [["mpi", "tasks.in", "-N", "2"], ["cluster", "x", "-t", "echo {} >o"]]
    assert list(blocks_of("text hs no\n```sh\nhs a\n```\n    hs b \\\n c\n")) == ["hs a", "    hs b   c"]
    with pytest.raises(UsageError):
        check_command(["cluster", "tasks.in", "--no-such-option"])
    with pytest.raises(AssertionError):
        check_command(["nothing"])


@pytest.mark.parametrize("name", NAMES)
def test_options_that_text_names_exist(name: str) -> None:
    """A span such as `--capture` or `-W 10m` names an option of ours, unless the page is about other programs."""
    ours = {flag for option in OPTIONS for flag in option.flags} | {"-h", "--help", "-v", "--version", "--citation"}
    ours.add("--opt")  # stands for any
    foreign = {"differences.md", "install.md", "0003-launchers-and-signals.md"}
    if Path(name).name in foreign or name.startswith("CHANGELOG"):
        ours |= set(re.findall(r"--?[a-z][\w-]*", (ROOT / name).read_text(encoding="utf-8")))
        ours |= {one.flag for one in RESERVED_FLAGS}
    unknown = [
        span
        for span in spans_of((ROOT / name).read_text(encoding="utf-8"))
        if re.match(r"--?[a-zA-Z]", span) and not _is_option(span, ours)
    ]
    assert not unknown


def _is_option(span: str, ours: set[str]) -> bool:
    words = re.split(r"[\s=/,]+", span)
    return all(word in ours or word[:2] in ours for word in words if re.match(r"--?[a-zA-Z]", word))


def test_nothing_feeds_hs_mpi_through_a_launcher() -> None:
    """MPICH's mpiexec dies of large standard input, Open MPI's never ends it: pages and scripts name a FILE."""
    launch = r"\b(?:mpirun|mpiexec|srun|jsrun|flux run)\b[^\n`|]*\bhs mpi\b"
    fed = re.compile(rf"{launch}[^\n`#]*<\s*\w|\|\s*(?:exec )?{launch}")
    assert fed.search("mpirun -n 4 hs mpi <tasks.in") and fed.search("cat x | mpirun -n 4 hs mpi")
    texts = [*PAGES, *(ROOT / "jobscripts").iterdir()]
    assert [path.name for path in texts if fed.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name: str) -> None:
    page = ROOT / name
    text = re.sub(r"(?ms)^\s*```.*?^\s*```", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name} links to {target}, which is not there"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", file.read_text(encoding="utf-8"))
            assert anchor in [_slug(heading) for heading in headings], f"{name}: no heading #{anchor} in {path}"


def _slug(heading: str) -> str:
    """The anchor that forges make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_index_names_every_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    decisions = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in DOCS.glob("*.md") if p.name != "index.md" and f"({p.name})" not in index] == []
    pages = (DOCS / "decisions").glob("0*.md")
    assert [p.name for p in pages if f"({p.name})" not in decisions] == []


def test_the_diagram_is_that_of_the_code() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert re.findall(r"(?ms)^```mermaid\n(.*?)\n```$", text) == [diagram()]


def test_files_that_the_architecture_names_exist() -> None:
    for page in [DOCS / "architecture.md", *(DOCS / "decisions").glob("*.md")]:
        named = re.findall(r"`((?:\w+/)*\w+\.py)`", page.read_text(encoding="utf-8"))
        lost = [path for path in named if not (ROOT / path).exists() and not (ROOT / "hypershell" / path).exists()]
        assert not lost, f"{page.name} names files that are not there"
    assert len(re.findall(r"`\w+/\w+\.py`", (DOCS / "architecture.md").read_text(encoding="utf-8"))) > 20


def test_the_table_of_imports_is_that_of_the_code() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("Who may import whom")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| `(\w+)` \| (.+) \|$", section)
    assert [package for package, _ in rows] == ["core", "proto", "executor", "data", "mpi", "net", "server", "apps"]
    for package, allowed in rows:
        if allowed != "anything":
            found = _imports(ROOT / "hypershell" / package) - {package}
            assert found <= set(re.findall(r"`(\w+)`", allowed)), f"{package} imports more than the table allows"


def _imports(folder: Path) -> set[str]:
    """The packages and modules of ours that the files of a package import, inside functions too."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                names = [f"{base}.{alias.name}" for alias in node.names] if base == "hypershell" else [base]
            found |= {name.split(".")[1] for name in names if name.startswith("hypershell.")}
    return found - {"__version__"}


def test_readme_opens_with_the_two_commands_and_make_has_them() -> None:
    opening = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert re.findall(r"(?m)^make (\w+)", opening) == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in NAMES:
        for target in re.findall(r"(?m)(?:^|`)make (\w+)", (ROOT / name).read_text(encoding="utf-8")):
            assert re.search(rf"(?m)^{target}:", makefile), f"{name}: make {target}"


@pytest.mark.parametrize("name", NAMES)
def test_no_page_installs_another_project(name: str) -> None:
    """The plain name on the package index is not ours."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"(?:pip|pipx|uv|conda)\b[^\n|`]*\s['\"]?hypershell(?![\w-])", text)
    assert re.search(r"pip install[^\n]*\s'hypershell-mpi\[", (ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_variables_that_pages_name_exist(name: str) -> None:
    known = {option.env for option in OPTIONS if option.env} | {"HYPERSHELL_SITE", "HYPERSHELL_CONFIG_FILE"}
    for variable in re.findall(rf"\b{ENV_PREFIX}[A-Z][A-Z_]*[A-Z]\b", (ROOT / name).read_text(encoding="utf-8")):
        plain = re.sub(r"_(ENV|EVAL)$", "", variable)
        in_tests = variable.startswith(f"{ENV_PREFIX}TEST_")
        assert plain in known or variable.startswith(EXPORT_PREFIX) or in_tests, f"{name}: {variable}"
