"""Lines: comments only where sh sees one, directives always found, everything else untouched."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hypershell.lines import Line, parse_line
from hypershell.tags import Directives, TagError

TAGGED = Directives(tags={"a": 1})
SURROGATES = st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))
SHELLISH = st.text("ab #'\"\\`$(){};|<> @", max_size=40)

UNTOUCHED = [
    'echo "a#b"',
    'echo "a # b"',
    "echo 'a # b'",
    r"echo a\ #b",
    r"echo \# b",
    "echo $#",
    'x=abc; echo "${#x}" ${#x}',
    'x=a; echo "${x:-a # b}" ${x# #}',
    "echo http://host/#anchor a#b",
    'echo "$(basename "a # b")"',
    'echo "it\'s # here"',
    "echo `echo a` x",
    "echo `echo 'a # b'` x",
    "echo $(echo a)#b",
    "echo 'a'#b \"c\"#d `echo e`#f ${x}#g",
    "echo $((1+(2)))#x",
    'echo "a\\"b # c"',
    "echo {#}",
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_a_hash_inside_a_word_or_quotes_stays(text: str) -> None:
    assert parse_line(text) == Line(text)


@pytest.mark.parametrize("text", UNTOUCHED)
def test_a_directive_is_found_behind_any_hash(text: str) -> None:
    assert parse_line(f"{text}  # HYPERSHELL: a:1\n") == Line(text, TAGGED)


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("echo a # note", "echo a"),
        ("echo a #note", "echo a"),
        ("echo a;#note", "echo a;"),
        ("(echo a)#note", "(echo a)"),
        ("echo a &# it's", "echo a &"),
        ("echo 'a#b' \"c#d\" # it's", "echo 'a#b' \"c#d\""),
        ('echo "it\'s" # note', 'echo "it\'s"'),
        ('echo "$(echo "(")" # note', 'echo "$(echo "(")"'),
        (r"echo \\ # note", r"echo \\"),
        ("echo a\t#note", "echo a"),
    ],
)
def test_comments_are_cut(text: str, args: str) -> None:
    assert parse_line(text) == Line(args)


@pytest.mark.parametrize(
    "text", [*UNTOUCHED, "echo a # note", "echo 'x' # it's", "echo a;#b", "(echo a)#b", "echo a &#"]
)
def test_cutting_never_changes_what_sh_does(text: str) -> None:
    def run(command: str) -> tuple[int, bytes]:
        result = subprocess.run(["/bin/sh", "-c", command + "\nwait"], capture_output=True, check=False)
        return result.returncode, result.stdout

    line = parse_line(text)
    assert line is not None
    assert run(line.args) == run(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t",
        "\r\n",
        "#",
        "# note",
        "  #!/bin/sh",
        "# it's",
        "#./run x  # HYPERSHELL: a:1",
        "# HYPERSHELLS: a:1",
        "# hypershell: a:1",
        "# HYPERSHELL-notes",
    ],
)
def test_blank_and_comment_lines_are_nothing(text: str) -> None:
    assert parse_line(text) is None


@pytest.mark.parametrize(
    "text",
    ["# HYPERSHELL: a:1", "#HYPERSHELL:a:1", "  # HYPERSHELL a:1 \r\n", "#\tHYPERSHELL:\ta:1"],
)
def test_a_directive_alone_is_global(text: str) -> None:
    assert parse_line(text) == Line("", TAGGED)


def test_a_directive_without_tags_says_nothing() -> None:
    assert parse_line("echo a # HYPERSHELL:") == Line("echo a", Directives())
    assert parse_line("# HYPERSHELL") == Line("", Directives())


def test_earlier_comments_survive_a_directive() -> None:
    assert parse_line("echo a # it's b # HYPERSHELL: a:1") == Line("echo a # it's b", TAGGED)


def test_a_quoted_directive_is_text() -> None:
    text = "echo 'see # HYPERSHELL: a:1 for tags'"
    assert parse_line(text) == Line(text)
    assert parse_line(text + " # HYPERSHELL: a:1") == Line(text, TAGGED)


@pytest.mark.parametrize(
    "args",
    ["it's", 'a 5" nail', "don't # stop", "a `b", "echo $(oops", "echo ${oops # x", 'it\'s "a # HYPERSHELL: b:2" '],
)
def test_lines_with_lone_quotes_keep_all_but_the_directive(args: str) -> None:
    assert parse_line(args) == Line(args.strip())
    assert parse_line(f"{args} # HYPERSHELL: a:1") == Line(args.strip(), TAGGED)


def test_reserved_keys_reach_the_directives() -> None:
    line = parse_line("./run # HYPERSHELL: cores:2 memory:1G timeout:10m group:3 x")
    assert line == Line("./run", Directives({"x": ""}, group=3, cores=2, memory=1024**3, timeout=600.0))


@pytest.mark.parametrize("tail", ["timeout:soon", "a/b", "a:1 # note", "a:'b'"])
def test_bad_tags_in_a_directive_are_errors(tail: str) -> None:
    with pytest.raises(TagError, match="bad tag"):
        parse_line(f"echo a # HYPERSHELL: {tail}")


def test_line_ends_go_and_other_blanks_stay() -> None:
    assert parse_line("\techo a \r\n") == Line("echo a")
    assert parse_line("cat a\u00a0\n") == Line("cat a\u00a0")
    assert parse_line("cat a\x0b") == Line("cat a\x0b")


@given(SURROGATES | st.text())
def test_without_a_hash_a_line_is_only_stripped(text: str) -> None:
    text = text.replace("#", "")
    stripped = text.strip(" \t\r\n")
    assert parse_line(text) == (Line(stripped) if stripped else None)


@given(SURROGATES)
def test_bytes_survive(text: str) -> None:
    args = "run " + text.replace("#", "").strip(" \t\r\n").replace("\n", "")
    for line in (parse_line(args), parse_line(f"{args} x# HYPERSHELL: a:1")):
        assert line is not None
        assert line.args.encode("utf-8", "surrogateescape").startswith(
            args.strip().encode("utf-8", "surrogateescape")
        )


@given(SHELLISH)
@example("${'")
@example("\\")
def test_a_cut_only_ever_shortens_at_a_hash(text: str) -> None:
    line = parse_line(text)
    stripped = text.strip(" ")
    if line is None:
        assert not stripped or stripped.startswith("#")
    else:
        assert stripped.startswith(line.args)
        rest = stripped[len(line.args) :].lstrip(" ")
        assert not rest or rest.startswith("#")


@given(SHELLISH)
def test_a_line_with_a_directive_keeps_all_its_text_or_is_refused(text: str) -> None:
    whole = f"{text} # HYPERSHELL: a:1"
    line = parse_line(whole)
    if line is None:
        assert text.strip().startswith("#")
    elif line.directives is not None:
        assert line == Line(text.strip(" "), TAGGED)
    else:
        assert line.args in (whole.strip(" "), text.strip(" "))


@pytest.mark.parametrize("unit", ["$(", "'\"", "\\", "`#", '"$(`', "${#", " #", "# HYPERSHELLS", "# 'HYPERSHELL "])
def test_long_hostile_lines_take_one_pass(unit: str) -> None:
    text = "x" + unit * (2**20 // len(unit)) + "'"
    line = parse_line(text)
    assert line is not None
    assert line.args
    assert text.startswith(line.args)
