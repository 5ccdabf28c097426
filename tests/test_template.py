"""Templates: every pattern, what passes through, what is refused, and arguments that stay arguments."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hypershell.errors import UsageError
from hypershell.template import ExpansionError, Slot, Template, TemplateError

PATH = "/some/path/file.tar.gz"
ARGS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
HOSTILE = st.text("ab $`\"'\\;&|()<>{}#*~\n@=%![]", max_size=20)
TEMPLATES = st.lists(
    st.sampled_from(
        [
            "{",
            "}",
            "{{",
            "}}",
            "{}",
            "{[",
            "]}",
            "{%",
            "%}",
            "{=",
            "=}",
            "x",
            "@",
            "@@",
            "/",
            "-",
            ".",
            "+",
            ":",
            "0",
            "1",
            " ",
            "'",
            '"',
            "$",
            "(",
            ")",
            "`",
            "\\",
            "#",
            "\n",
            "{[-1]}",
            "{slot}",
            "{/-}",
            "{= x =}",
            "{% a @ %}",
        ]
    )
    | st.text(max_size=3)
).map("".join)


def expand(template: str, args: str) -> str:
    return Template(template).expand(args)


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{}", PATH),
        ("{ }", PATH),
        ("{.}", "/some/path"),
        ("{..}", "/some"),
        ("{/}", "file.tar.gz"),
        ("{/-}", "file.tar"),
        ("{-}", "/some/path/file.tar"),
        ("{+}", ".gz"),
        ("{++}", "gz"),
        ("{ /- }", "file.tar"),
        ("cp {} {.}/{/-}.bak", f"cp {PATH} /some/path/file.tar.bak"),
        ("./some_program.py {} >outputs/{/-}.out", f"./some_program.py {PATH} >outputs/file.tar.out"),
        ("echo plain", "echo plain"),
        ("", ""),
    ],
)
def test_path_patterns(template: str, result: str) -> None:
    assert expand(template, PATH) == result


def test_paths_without_directory_or_extension() -> None:
    assert [expand(p, "file") for p in ("{.}", "{..}", "{/}", "{/-}", "{-}", "{+}", "{++}")] == [
        *("", "", "file", "file", "file", "", "")
    ]


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{[0]}", "a"),
        ("{[-1]}", "e"),
        ("{ [ 1 ] }", "b"),
        ("{[:3]}", "a b c"),
        ("{[::2]}", "a c e"),
        ("{[-2:]}", "d e"),
        ("{[::-1]}", "e d c b a"),
        ("{[1:-1]}", "b c d"),
        ("{[ 0 : 9 : 3 ]}", "a d"),
        ("{[:]}", "a b c d e"),
        ("{[::]}", "a b c d e"),
        ("{[9:]}", ""),
    ],
)
def test_words(template: str, result: str) -> None:
    assert expand(template, " a  b\tc d e ") == result


NUMBERS = st.none() | st.integers(-7, 7)


@given(st.lists(st.text("abc", min_size=1), max_size=6), NUMBERS, NUMBERS, NUMBERS)
def test_slices_are_those_of_python(
    words: list[str], first: int | None, last: int | None, step: int | None
) -> None:
    assume(step != 0)
    start, stop, stride = ("" if number is None else str(number) for number in (first, last, step))
    args = " ".join(words)
    assert expand(f"{{[{start}:{stop}:{stride}]}}", args) == " ".join(words[first:last:step])
    assert expand(f"{{[{start}:{stop}]}}", args) == " ".join(words[first:last])


@given(st.lists(st.text("abc", min_size=1), max_size=6), st.integers(-7, 7))
def test_an_index_is_pythons_or_a_failure_of_the_task(words: list[str], index: int) -> None:
    template = Template(f"{{[{index}]}}")
    if -len(words) <= index < len(words):
        assert template.expand(" ".join(words)) == words[index]
    else:
        with pytest.raises(ExpansionError, match=rf"\{{\[{index}\]\}}: index out of range.* {len(words)} words"):
            template.expand(" ".join(words))


@pytest.mark.parametrize(
    "text",
    [
        "echo ${HOME}",
        "awk '{print $1}'",
        "{ echo a; }",
        "{ [ -f x ] && echo y; }",
        "echo {a,b} {1..5} {1} {#}",
        "{",
        "}",
        "}}",
        "awk '{if (x) {print}}'",
        "${a:-${b}}",
        "f() { echo; }",
        "{ // }",
        '{"a": {"b": 1}}',
        "${x%y} ${#x}",
        "${slot} ${#} ${-} ${} ${%x} ${=x} ${[1]} ${//} ${.}",
        "{Slot} {slots} {slot count}",
    ],
)
def test_braces_that_are_no_pattern_pass_untouched(text: str) -> None:
    assert expand(text, PATH) == text
    assert expand(text + " {/}", PATH) == text + " file.tar.gz"


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{{}}", "{}"),
        ("{{{}}}", "{X}"),
        ("{{/-}}", "{/-}"),
        ("{{", "{"),
        ("{{{{", "{{"),
        ("{{%d}", "{%d}"),
        ("{{[^}]*} {}", "{[^}]*} X"),
        ("${x:-{}}", "${x:-X}"),
        ("${{{}}}", "${X}"),
        ("${x:-{slot}}", "${x:-0}"),
        ("{{slot}}", "{slot}"),
        ("awk '{print \"{}\"}'", "awk '{print \"X\"}'"),
        ("{{ ${a:-${b}} }}", "{ ${a:-${b} }}"),
    ],
)
def test_doubled_braces(template: str, result: str) -> None:
    assert expand(template, "X") == result


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{[x]}", r"unknown template pattern \{\[x\]\}"),
        ("{[0]zzz}", r"unknown template pattern \{\[0\]zzz\}"),
        ("{[]}", "unknown template pattern"),
        ("{[0", "unknown template pattern"),
        ("{[1:2:3:4]}", "unknown template pattern"),
        ("{[1.5]}", "unknown template pattern"),
        ("{[::0]}", "step of .* is 0"),
        ("{///}", r"unknown template pattern \{///\}"),
        ("{...}", "unknown template pattern"),
        ("{//}", r"\{\.\} is the directory"),
        ("{/.}", r"\{/-\} is the name"),
        ("{--}", "unknown template pattern"),
        ("{% no close", "never closed: expected %}"),
        ("{= no close", "never closed: expected =}"),
        ("{=}", "never closed"),
        ("{%%}", "nothing between"),
        ("{= =}", "nothing between"),
        ("{= x + =}", "no Python expression"),
        ("{= x; 1 =}", "no Python expression"),
        ("{= x = 1 =}", "no Python expression"),
        ("{= '\0' =}", "no Python expression"),
        ("{= '\udcff' =}", "no Python expression"),
        ("{= " + "(" * 5000 + " =}", "no Python expression"),
    ],
)
def test_unusable_templates_are_refused_by_name(template: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        Template("run {} " + template)
    assert isinstance(caught.value, TemplateError)
    assert "\n" not in str(caught.value)


def test_an_error_names_the_column_and_the_escape() -> None:
    with pytest.raises(TemplateError, match=r"column 6: .*written \{\{"):
        Template("echo {[x]}")


@pytest.mark.parametrize(
    ("template", "args", "result"),
    [
        ("{= x + 1 =}", "41", "42"),
        ("{=x*2=}", "0.10", "0.2"),
        ("{= x + 1 =}", "007", "8"),
        ("{= x / 2 =}", "1e3", "500.0"),
        ("{= x =}", "none", "None"),
        ("{= x =}", "true", "True"),
        ("{= x =}", "2024-01-01", "2024-01-01"),
        ("{= x.upper() =}", "a b", "A B"),
        ("{= x =}", "nan", "nan"),
        ("{= math.floor(x) =}", "2.7", "2"),
        ("{= path.join('d', x) =}", "f", os.path.join("d", "f")),
        ("{= os.path.basename(x) =}", "d/f", "f"),
        ("{= dt.date.fromisoformat(x) + dt.timedelta(days=1) =}", "2024-02-28", "2024-02-29"),
        ("{= {1: 'one'}[x] =}", "1", "one"),
        ("{= [x + i for i in range(2)] =}", "1", "[1, 2]"),
        ("a{= x =}b{}c", "1", "a1b1c"),
    ],
)
def test_expressions(template: str, args: str, result: str) -> None:
    assert expand(template, args) == result


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{= 1 / x =}", r"\{= 1 / x =\}: ZeroDivisionError: division by zero"),
        ("{= nothing =}", "NameError"),
        ("{= exit(3) =}", "SystemExit"),
        ("{= 10 ** 5000 =}", "ValueError"),
        ("{= (lambda f: f(f))(lambda f: f(f)) =}", "RecursionError"),
        ("{= open('no such\\nfile') =}", "FileNotFoundError"),
    ],
)
def test_a_failing_expression_fails_the_task_by_name(template: str, reason: str) -> None:
    with pytest.raises(ExpansionError, match=reason) as caught:
        expand(template, "0")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{slot}/{slot_count}", "3/8"),
        ("{ slot\t}", "3"),
        ("CUDA_VISIBLE_DEVICES={= slot % 2 =} {}", "CUDA_VISIBLE_DEVICES=1 X"),
        ("{= slot_count - slot =}", "5"),
    ],
)
def test_slots(template: str, result: str) -> None:
    ready = Template(template)
    assert ready.needs_slot and ready.expand("X", (), Slot(3, 8)) == result


def test_only_the_template_can_ask_for_the_slot() -> None:
    assert not any(Template(text).needs_slot for text in ("{}", "${slot} {= x =}", "{{slot}}", "{% slot %}"))
    assert Template("{} {slot}").expand("{slot}", (), Slot(3, 8)) == "{slot} 3"


def test_an_expression_leaves_nothing_for_the_next_task() -> None:
    template = Template("{= [y := x, y][1] if x else y =}")
    assert template.expand("1") == "1"
    with pytest.raises(ExpansionError, match="NameError"):
        template.expand("0")


@pytest.mark.parametrize(
    ("template", "args", "commands"),
    [
        ("{% dirname @ %}", "/a/b", ["dirname /a/b"]),
        ("{% dirname @ %}", "a b", ["dirname 'a b'"]),
        ("{% dirname '@' %}", "it's", ["dirname 'it'\"'\"'s'"]),
        ('{% dirname "@" %}', '$x "y"', ['dirname ""\'$x "y"\'""']),
        ('{% dirname "@" %}', "a b", ['dirname "a b"']),
        ("{%date%}{% echo @@ @%}", "x", ["date", "echo @ x"]),
        ("{% awk '{print $1}' @ %}", "f", ["awk '{print $1}' f"]),
        ("{% echo @>o %}", "2", ["echo '2'>o"]),
        ("{} {[0]}", "x", []),
    ],
)
def test_commands(template: str, args: str, commands: list[str]) -> None:
    assert Template(template).commands(args) == tuple(commands)


def test_outputs_take_the_places_of_their_commands() -> None:
    template = Template("cd {% dirname @ %} && run {} {% date %}")
    assert template.expand("a/b", ["{}", "{[9]}"]) == "cd {} && run a/b {[9]}"
    with pytest.raises(ExpansionError, match="1 command outputs given, 2 needed"):
        template.expand("a/b", ["a"])


@given(ARGS)
def test_a_lone_argument_is_quoted_as_shlex_does(args: str) -> None:
    assert Template("{% run @ %}").commands(args) == (f"run {shlex.quote(args)}",)


@pytest.mark.parametrize(
    "command",
    [
        "printf %s @",
        "printf %s '@'",
        'printf %s "@"',
        "printf %s ''@''",
        'printf %s "$(printf %s @; echo .)" # x',
        'printf %s "$(printf %s "@"; echo .)"',
        "(printf %s @)",
        "x='it'; printf %s \"@\"",
        "printf %s @ #it's",
        "(true)#'\nprintf %s @",
        "x=1; printf %s ${x#1}$((1 - 1))`true`@",
        "case a in a) printf %s @;; esac",
        "printf %s \\''@' \\#'@' # it's",
    ],
)
@settings(max_examples=15, deadline=None)
@given(args=HOSTILE)
@example(args="a'b\"c$(echo no)`echo no`$HOME\\")
def test_arguments_reach_sh_as_they_are(command: str, args: str) -> None:
    (ready,) = Template(f"{{% {command} %}}").commands(args)
    result = subprocess.run(["/bin/sh", "-c", ready], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    output = result.stdout.decode()
    assert result.stderr == b""
    if command.startswith("x=1"):
        assert output == "0" + args
    elif "echo ." in command:
        assert output == args + "."
    elif "\\'" in command:
        assert output == f"'{args}#{args}"
    else:
        assert output == args


@pytest.mark.parametrize(
    "command",
    [
        "`basename @`",
        "echo $((@ + 1))",
        "echo ${x:-@}",
        'echo "${x:-"@"}"',
        "echo $@",
        'echo "$@"',
        "echo $'@'",
        "cat <<E\n@\nE",
        "echo @ # @",
        "echo '@",
        'echo "@',
        "echo $(basename @",
        "((x = @))",
        "echo $[@]",
        'echo "$(case a in a) echo @;; esac)"',
        'echo "`echo @`"',
    ],
)
def test_commands_that_cannot_hold_arguments_safely_are_refused(command: str) -> None:
    with pytest.raises(TemplateError, match="cannot take @ safely"):
        Template(f"{{% {command} %}}")


@pytest.mark.parametrize(
    "command", ["echo ${x:-1} `date` $((1 + 2)) it's", "cat <<E\n$(date)\nE", "case x in x) ;; esac"]
)
def test_commands_without_arguments_are_left_alone(command: str) -> None:
    assert Template(f"{{% {command} %}}").commands("a b") == (command,)


def test_the_shells_own_at_can_be_written() -> None:
    assert Template('{% set -- a; echo "$@@" @ %}').commands("b") == ('set -- a; echo "$@" b',)


def test_trivial_templates() -> None:
    assert Template("{}").trivial
    assert Template("{ }").trivial
    assert not any(Template(text).trivial for text in ("", "{} ", "{}{}", "{/}", "echo {}"))
    assert Template("echo {}").text == "echo {}"


@given(st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")) | st.text())
@example("{} {{ {[0]} {% rm @ %} {= 1 =}")
def test_arguments_are_never_scanned(args: str) -> None:
    assert expand("{}", args) == args
    assert expand("a{}b{}{}", args) == f"a{args}b{args}{args}"
    assert expand("a{}b{/}", args) == f"a{args}b{os.path.basename(args)}"
    assert expand("no pattern", args) == "no pattern"


@given(TEMPLATES, st.text(max_size=10))
@example("{[9", "")
@example("{% '@ %}", "")
def test_any_text_is_a_template_or_a_named_error(text: str, args: str) -> None:
    try:
        template = Template(text)
        result = template.expand(args, ["out"] * len(template.commands(args)))
    except (TemplateError, ExpansionError) as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(result, str)


@given(st.text())
def test_text_without_braces_is_itself(text: str) -> None:
    text = text.replace("{", "").replace("}", "")
    assert expand(text, "x") == text


@given(st.text())
def test_doubled_braces_protect_any_text(text: str) -> None:
    protected = text.replace("}", "").replace("{", "{{")
    assert expand(protected, "x") == text.replace("}", "")


def test_many_blanks_after_braces_take_one_pass() -> None:
    text = "{" + " " * 10**6 + "{[" + "0" * 5
    with pytest.raises(TemplateError, match="unknown template pattern"):
        Template(text)
