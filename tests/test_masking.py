"""Secrets on command lines: found in every form in which argparse takes them, and nothing else changed."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypershell.apps.frame import parse_arguments
from hypershell.masking import MASK, masked, masked_line, put_back, take_out
from hypershell.options import COMMANDS, OPTIONS, options_of

KEY = "Sesame-0123456789+/="

FORMS = (
    ["server", "-k", KEY, "tasks.in"],
    ["server", f"-k{KEY}", "tasks.in"],
    ["server", f"-k={KEY}", "tasks.in"],
    ["server", "--auth", KEY, "tasks.in"],
    ["server", f"--auth={KEY}", "tasks.in"],
    ["client", "-H", "node", "-p", "50001", "-k", KEY],
    ["client", "--capture", f"-k{KEY}", "-N2"],
    ["mpi", "-n", "4", "tasks.in", "-H", "0.0.0.0", "-k", KEY, "-k", KEY],
    ["submit", "-q", "-k", KEY, "--", "program", "-k", "5"],
    ["submit", f"-qk{KEY}", "tasks.in"],
    ["submit", "-qk", KEY, "tasks.in"],
    ["status", "--json", "--auth", KEY],
    ["cluster", "tasks.in", "--auth", KEY],
)

OTHERS = (
    ["server", "tasks.in", "--auth-file", "key.txt", "-H", "localhost"],
    ["server", "tasks.in", "--auth-f", "key.txt"],
    ["mpi", "tasks.in", "-fk", "failed.in"],
    ["run", "--", "program", "-k", "5", "--auth", "mine"],
    ["list", "-w", "args == -k"],
    ["cluster"],
    ["no-such-command", "-k", KEY],
    [],
)


@pytest.mark.parametrize("words", FORMS, ids=" ".join)
def test_every_form_of_a_key_is_masked_and_can_be_put_back(words: list[str]) -> None:
    given = parse_arguments(words[0], words[1:])
    assert {"auth", "idle_auth"} & given.keys(), "a form that argparse takes"
    hidden, secrets = take_out(words)
    assert KEY not in " ".join(hidden) and MASK in " ".join(hidden)
    assert put_back(hidden, secrets) == words
    assert masked(words) == hidden == masked(hidden)
    line = masked_line(shlex.join(["hs", *words]))
    assert shlex.split(line) == ["hs", *hidden] and masked_line(line) == line


@pytest.mark.parametrize("words", OTHERS, ids=" ".join)
def test_what_is_no_key_stays(words: list[str]) -> None:
    assert take_out(words) == (words, [])
    line = shlex.join(["hs", *words])
    assert masked_line(line) == line


def test_a_recorded_line_that_no_shell_could_read_is_masked_too() -> None:
    assert KEY not in masked_line(f"hs server it's.in -k {KEY}")
    assert masked_line("") == "" and masked_line("hs run it's --auth") == "hs run it's --auth"


def test_every_secret_of_the_table_has_a_line_here() -> None:
    secret = {option.dest for option in OPTIONS if option.is_secret and option.flags}
    assert secret == {"auth", "idle_auth"}
    commands = {command for option in OPTIONS if option.dest in secret for command in option.commands}
    assert commands == {words[0] for words in FORMS}


_FLAGS = [flag for command in ("mpi", "submit") for option in options_of(command) for flag in option.flags]
_WORD = st.one_of(st.sampled_from([*_FLAGS, "--", "-", "-qFk", "--aut", "--auth=x"]), st.text(max_size=6))


@settings(deadline=None)
@given(st.sampled_from([command.name for command in COMMANDS]), st.lists(_WORD, max_size=8))
def test_any_words_come_back(command: str, rest: list[str]) -> None:
    words = [command, *rest]
    hidden, secrets = take_out(words)
    assert put_back(hidden, secrets) == words and len(hidden) == len(words)
    masked_line(" ".join(words))
