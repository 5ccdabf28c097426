"""What a command line says instead of passing over it: doubtful words, numbers, repetitions, reserved words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hypershell import tags, values
from hypershell.apps import kinds
from hypershell.core.model import Special
from hypershell.options import COMMANDS, options_of
from hypershell.options.reserved import RESERVED_COMMANDS, RESERVED_FLAGS
from tests.testbed.cli import Hs
from tests.testbed.inside import run_inside

INFO = {"HYPERSHELL_LOGGING_LEVEL": "info"}
KEY = {"HYPERSHELL_SERVER_AUTH": "0123456789abcdef" * 4}


def refused(hs: Hs, status: int, *argv: str, **more: str) -> str:
    """The only line of a command that is refused."""
    done = run_inside(hs, *argv, env=more)
    assert (done.status, done.out) == (status, ""), done
    assert done.err.startswith("CRITICAL [hypershell] ") and done.err.count("\n") == 1, done.err
    return done.err.removeprefix("CRITICAL [hypershell] ").strip()


# -- one word ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["nothere.in", "./nothere", "sub/nothere", "/no/such/program", "données.txt", "~/x.in"]
)
def test_a_path_to_nothing_is_no_command(hs: Hs, word: str) -> None:
    text = refused(hs, 2, "submit", word)
    assert text.startswith(f"there is no file and no program '{word}'")
    assert "command write --" in text and "file of commands -f" in text
    assert not hs.db.exists()


def test_words_that_may_be_commands(hs: Hs, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = hs.folder / "tool.x"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(hs.folder), prepend=os.pathsep)
    monkeypatch.chdir("/")
    commands = [
        "true",
        "nothere",
        "tool.x",
        "/bin/sh",
        "echo a.b",
        "$HOME/run.sh",
        "./x;./y",
        "a.*",
        ".",
        "VAR=a.b",
    ]
    assert [kinds.doubt(word) for word in commands if not kinds.is_list(word)] == [None] * (len(commands) - 1)


def test_a_list_of_commands_that_is_executable(hs: Hs) -> None:
    path = hs.folder / hs.file(["echo 1", "echo 2"])
    path.chmod(0o755)
    text = refused(hs, 2, "submit", "tasks.in")
    assert text.startswith("'tasks.in' can be executed and is no program") and "-f" in text
    assert run_inside(hs, "submit", "-f", "tasks.in").status == 0
    assert run_inside(hs, "submit", "-t", "a", "--", "tasks.in").status == 0
    assert run_inside(hs, "submit", "--", "nothere.in").status == 0
    assert hs.rows("SELECT args FROM task ORDER BY id") == [
        ("echo 1",),
        ("echo 2",),
        ("tasks.in",),
        ("nothere.in",),
    ]


@pytest.mark.parametrize("head", [b"#!/bin/sh\n", b"\x7fELF\x02\0", b"\xcf\xfa\xed\xfe\x07\0", b"MZ\x90\0"])
def test_programs_begin_as_programs_do(tmp_path: Path, head: bytes) -> None:
    program = tmp_path / "program"
    program.write_bytes(head)
    assert kinds.is_list(str(program))
    program.chmod(0o755)
    assert not kinds.is_list(str(program)) and kinds.doubt(str(program)) is None


def test_a_folder_is_no_command(hs: Hs) -> None:
    assert refused(hs, 5, "submit", str(hs.folder)).startswith("IsADirectoryError: ")


# -- numbers -------------------------------------------------------------------------------------------------

HUGE = "9" * 20
LIMITS = [
    (("cluster", "-N", HUGE), "argument -N/--num-threads/--num-tasks: must be at most 2147483647, not "),
    (("cluster", "-b", HUGE), "argument -b/--bundlesize: must be at most 2147483647, not "),
    (("cluster", "-r", "2147483647"), "argument -r/--max-retries: must be at most 2147483646, not "),
    (("list", "-l", HUGE), "argument -l/--limit: must be at most 9223372036854775807, not "),
    (("runs", "-l", HUGE), "argument -l/--limit: must be at most 9223372036854775807, not "),
    (("export", "x.csv", "-l", HUGE), "argument -l/--limit: must be at most 9223372036854775807, not "),
    (("submit", "-c", HUGE, "true"), "argument -c/--cores: must be at most 2147483647, not "),
    (("submit", "-g", "3000000000", "true"), "argument -g/--group: must be at most 2147483647, not "),
    (("run", "-g", "3000000000", "true"), "argument -g/--group: must be at most 2147483647, not "),
    (("update", "-g", "3000000000", "cores=1"), "argument -g/--group: must be at most 2147483647, not "),
    (("list", "-g", "3000000000"), "argument -g/--group: must be at most 2147483647, not "),
    (("update", "group=3000000000"), "'group=3000000000': group takes a whole number from 0 to 2147483647"),
    (("submit", "true", "-t", "group:3000000000"), "bad tag 'group:3000000000': group takes a whole number from 0"),
    (("list", "-t", "a", "cores:3000000000"), "bad tag 'cores:3000000000': cores takes a whole number from 0"),
]


@pytest.mark.parametrize(("argv", "text"), LIMITS, ids=[" ".join(argv) for argv, _ in LIMITS])
def test_numbers_that_no_database_holds(hs: Hs, argv: tuple[str, ...], text: str) -> None:
    assert refused(hs, 2, *argv).startswith(text)


def test_numbers_of_variables_and_files(hs: Hs) -> None:
    text = "HYPERSHELL_TASK_CORES: must be at most 2147483647, not " + HUGE
    assert refused(hs, 3, "submit", "true", HYPERSHELL_TASK_CORES=HUGE) == text
    path = hs.folder / "c.toml"
    path.write_text(f"[server]\nattempts = {'9' * 5000}\n")
    assert refused(hs, 3, "cluster", "-", HYPERSHELL_CONFIG_FILE=str(path)).startswith(f"{path}: not valid TOML: ")


def test_the_largest_numbers_work(hs: Hs) -> None:
    most = str(values.MAX_INTEGER)
    assert run_inside(hs, "submit", "-g", most, "-c", most, "true").status == 0
    for argv in (["-g", most], ["-l", str(values.MAX_COUNT)], ["-w", f"group < {values.MAX_COUNT}"]):
        assert run_inside(hs, "list", "group", *argv).out == f"{most}\n"
    assert tags.MAX_INTEGER == values.MAX_INTEGER
    done = hs.run("cluster", "--no-db", "-N", most, "-r", str(values.MAX_INTEGER - 1), "-b", most, input="echo 1\n")
    assert (done.status, done.out) == (0, "1\n")


# -- said --------------------------------------------------------------------------------------------------


def test_a_repeated_option_is_told(hs: Hs) -> None:
    done = run_inside(hs, "list", "-c", "--db", "a.db", "-l1", "--limit", "2", "-l3", "-g1", "-g1")
    assert (
        done.err.splitlines()[0] == " WARNING [hypershell] -l/--limit is given more than once: the last one counts"
    )
    assert done.err.count("WARNING") == 1 and "a.db does not exist" in done.err
    done = run_inside(hs, "server", "--bind", "localhost", "nothere", "--bind", "::1")
    assert "-H/--bind is given more than once: the last one counts" in done.err
    done = run_inside(hs, "submit", "-t", "a", "-t", "b", "--", "true")
    assert (done.status, "more than once" in done.err) == (0, False)


def test_unknown_variables_are_told_with_the_near_one(hs: Hs) -> None:
    unknown = {"HYPERSHELL_SERVER_BUNDLESIZ": "1", "HYPERSHELL_EXPORT_X": "1", "HYPERSHELL_XYZZY": ""}
    done = run_inside(hs, "list", "-c", env=unknown)
    assert (done.status, done.out) == (0, "0\n")
    assert done.err.splitlines() == [
        " WARNING [hypershell] unknown environment variable HYPERSHELL_SERVER_BUNDLESIZ (ignored; did you mean "
        "HYPERSHELL_SERVER_BUNDLESIZE?)",
        " WARNING [hypershell] unknown environment variable HYPERSHELL_XYZZY (ignored)",
    ]


def test_a_task_that_runs_hs_hears_nothing_of_our_variables(hs: Hs) -> None:
    line = f"HYPERSHELL_SITE={hs.site} {sys.executable} -m hypershell list -c --db {hs.folder / 'x.db'}"
    assert run_inside(hs, "initdb", "-y", "--db", "x.db").status == 0
    done = hs.run("cluster", input=line, env={"HYPERSHELL_TASK_TIMEOUT": "60", "HYPERSHELL_SERVER_ATTEMPTS": "1"})
    assert (done.status, done.out, done.err) == (0, "0\n", "")


# -- databases that are not there --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FILE", "URL"])
def test_a_database_of_the_configuration_may_be_absent(hs: Hs, name: str) -> None:
    path = hs.folder / "later" / "x.db"
    env = {f"HYPERSHELL_DATABASE_{name}": f"sqlite:///{path}" if name == "URL" else str(path)}
    for argv, out in (
        (["list", "--count"], "0\n"),
        (["list", "--json"], "[]\n"),
        (["list", "--tag-keys"], ""),
        (["runs"], ""),
        (["clients", "--json"], "[]\n"),
        (["export", "-", "--format", "jsonl"], ""),
        (["update", "--cancel"], ""),
    ):
        done = run_inside(hs, *argv, env=env)
        assert (done.status, done.out) == (0, out), done.err
    assert not path.parent.exists()
    for argv in (["list", "-c"], ["runs"], ["clients"], ["export", "x.csv"], ["update", "--cancel", "-f"]):
        assert run_inside(hs, *argv, "--db", str(path), env=env).status == 5


# -- the current folder is gone ----------------------------------------------------------------------------

GONE = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'


def in_no_folder(hs: Hs, *argv: str, **more: str) -> tuple[int, str, str]:
    import subprocess

    words = ["sh", "-c", GONE, "sh", *hs.command(*argv)]
    env = hs.environ(more)
    done = subprocess.run(words, cwd=hs.folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_what_reads_works_without_a_current_folder(hs: Hs) -> None:
    assert in_no_folder(hs, "list", "-c") == (0, "0\n", "")
    assert in_no_folder(hs, "list", "-c", HYPERSHELL_SITE="", HOME=str(hs.folder))[0] == 0
    status, out, err = in_no_folder(hs, "cluster", "--help")
    assert (status, err) == (0, "") and out.startswith("usage: hs cluster ")


@pytest.mark.parametrize("words", ["cluster tasks.in", "submit true", "list -c --db x.db", "client"])
def test_what_needs_a_current_folder_says_so(hs: Hs, words: str) -> None:
    text = "the current directory cannot be used: No such file or directory (change to another)"
    assert in_no_folder(hs, *words.split(), **KEY) == (5, "", f"CRITICAL [hypershell] {text}\n")
    assert not hs.site.exists()


# -- options of HyperShell ----------------------------------------------------------------------------------


def test_options_without_effect_are_told_in_one_line(hs: Hs) -> None:
    argv = "cluster -Q 30 --no-confirm --initdb -H 0.0.0.0 -p 50001 --no-tls --auth x --tls-ca a --tls-key b -N1"
    done = hs.run(*argv.split(), input="echo 1\n", env=INFO)
    assert (done.status, done.out) == (0, "1\n")
    told = [line for line in done.err.splitlines() if "without effect" in line]
    flags = "-Q/--poll, --no-confirm, --initdb, -H/--bind, -p/--port, --auth, --no-tls, --tls-key, --tls-ca"
    assert told == [f"    INFO [hypershell] accepted without effect: {flags}"]
    assert hs.run(*argv.split(), input="echo 1\n").err == ""


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("cluster", "-Q --poll --no-confirm --initdb -H --bind -p --port --no-tls --tls-ca --tls-cert --tls-key"),
        ("cluster", "--auth --advertise"),
        ("server", "-Q --poll --no-confirm --initdb --tls-ca --tls-cert --tls-key"),
        ("client", "--no-confirm --tls-ca --tls-cert --tls-key"),
        ("submit", "--initdb --tls-ca --tls-cert --tls-key"),
    ],
)
def test_options_of_hypershell_are_known(command: str, flags: str) -> None:
    assert set(flags.split()) <= {flag for option in options_of(command) for flag in option.flags}


def test_initdb_needs_a_database(hs: Hs) -> None:
    assert refused(hs, 2, "cluster", "--initdb", "--no-db") == "Using --initdb with --no-db is invalid"


def test_keys_without_effect_are_no_warning(hs: Hs) -> None:
    path = hs.folder / "c.toml"
    path.write_text('[server]\npoll = 5\nqueuesize = 1\n[console]\ntheme = "monokai"\n')
    env = {"HYPERSHELL_CONFIG_FILE": str(path), "HYPERSHELL_SERVER_POLL": "x"}
    assert run_inside(hs, "list", "-c", env=env).err == ""
    done = run_inside(hs, "list", "-c", env={**env, "HYPERSHELL_LOGGING_LEVEL": "debug"})
    assert done.err.count("without effect") == 4


def test_a_missing_file_comes_before_the_key(hs: Hs) -> None:
    assert refused(hs, 5, "server", "nosuch.in").startswith("FileNotFoundError: nosuch.in: No such file")
    assert refused(hs, 5, "server", ".").startswith("IsADirectoryError: ")
    assert refused(hs, 2, "server", hs.file(["true"])).startswith("there is no key for clients")


# -- reserved words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", RESERVED_COMMANDS)
def test_reserved_commands_are_named(hs: Hs, word: str) -> None:
    assert word not in {command.name for command in COMMANDS}
    assert refused(hs, 2, word, "-x").startswith(f"hs {word} is reserved and not there yet; today: ")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["cluster", "-k", "x"], "-k is reserved for --keep-order, which is not there yet"),
        (
            ["cluster", "-N2", "-Afixed"],
            "-A is reserved for autoscaling, which is not there yet; today start hs client",
        ),
        (["server", "x", "-Y", "5"], "-Y is reserved for autoscaling"),
        (["mpi", "--delay", "5"], "--delay is reserved for a pause between the starts of tasks"),
        (["client", "--delay=5"], "--delay is reserved for "),
        (["client", "-C", "4"], "-C is reserved for the cores of a client"),
        (["submit", "-G", "1", "x"], "-G is reserved for the GPUs of each task"),
        (["cluster", "tasks.in", "-N16", "--ssh-group=xyz", "--capture"], "--ssh-group is reserved for a cluster"),
        (["cluster", "tasks.in", "--ssh"], "--ssh is reserved for a cluster over SSH, which is not there yet;"),
        (["cluster", "tasks.in", "-N128", "--launcher=srun", "-r2"], "--launcher is reserved for a cluster that a"),
        (["client", "--monitor"], "--monitor is reserved for monitoring of tasks"),
    ],
)
def test_reserved_options_are_named(hs: Hs, argv: list[str], text: str) -> None:
    assert refused(hs, 2, *argv).startswith(text)


def test_reserved_options_have_no_other_meaning() -> None:
    for flag, commands, _, _ in RESERVED_FLAGS:
        for command in commands:
            assert command in {entry.name for entry in COMMANDS}
            assert flag not in {flag for option in options_of(command) for flag in option.flags}


@pytest.mark.parametrize("key", tags.RESERVED)
def test_reserved_tags_are_refused_and_old_ones_found(hs: Hs, key: str) -> None:
    text = f"bad tag '{key}:1': {key}: is reserved for {tags.RESERVED[key]}; take another key"
    hs.file(["echo 0", f"echo 1  # HYPERSHELL: {key}:1 site:x"])
    assert refused(hs, 2, "submit", "true", "-t", "a", f"{key}:1") == text
    assert refused(hs, 2, "update", f"{key}:1") == text
    assert refused(hs, 5, "submit", "tasks.in") == f"tasks.in:2: {text}; nothing was submitted"
    assert run_inside(hs, "submit", "true", "-t", "id:7").status == 0
    done = hs.run("cluster", "tasks.in", "--db", "run.db")
    assert (done.status, f"tasks.in:2: {text}; the line was not run" in done.err) == (7, True)
    assert run_inside(hs, "list", "-c", "-t", f"{key}:1").out == "0\n"
    assert run_inside(hs, "update", "--remove-tag", key, "-f").status == 0


# -- hosts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("[::1]", "::1"), ("::1", "::1"), ("localhost.", "localhost"), ("a.b.c.", "a.b.c"), ("*", "*"), ("", ""),
        ("[fe80::1%eth0]", "fe80::1%eth0"), ("[::]", "::"), ("127.0.0.1", "127.0.0.1"),
    ],
)  # fmt: skip
def test_forms_of_hosts(given: str, host: str) -> None:
    assert values.host(given) == host


@pytest.mark.parametrize("given", ["[::1]:50001", "localhost:50001", "[::1", "[]", ".", "[::1]x"])
def test_what_is_no_host(given: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a (host|name or address)"):
        values.host(given)


@pytest.mark.parametrize("option", ["-H", "HYPERSHELL_SERVER_HOST"])
@pytest.mark.parametrize(("given", "shown"), [("[::1]", "[::1]:1"), ("localhost.", "localhost:1")])
def test_hosts_are_reached_in_every_form(hs: Hs, option: str, given: str, shown: str) -> None:
    argv, env = (["-H", given], KEY) if option == "-H" else ([], {**KEY, option: given})
    text = refused(hs, 5, "status", "-p", "1", *argv, **env)
    assert text.startswith(f"server at {shown}: cannot reach the server: ") and "no host" not in text


def test_the_page_of_differences_translates_statuses() -> None:
    page = (Path(__file__).parent.parent / "docs" / "differences.md").read_text(encoding="utf-8")
    for special, theirs in ((Special.CANCELLED, -1), (Special.TEMPLATE_FAILED, -2), (Special.IMPOSSIBLE, -3)):
        assert f"| {theirs} | {int(special)} |" in page and special + 99 == theirs
