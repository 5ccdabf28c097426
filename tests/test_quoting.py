"""``-q`` and ``{...:q}``: whatever the line, it stays text. For cmd.exe a model of its rules says so."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hypershell.ostext import from_bytes, to_bytes
from hypershell.template import ExpansionError, Slot, Template, TemplateError, with_quotes

SHELLS = ("dash", "bash")
#: What a line may do if it gets the chance: make this file.
CANARY = "canary"
ATTACKS = [
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f";touch {CANARY};",
    f"\ntouch {CANARY}\n",
    f"'$(touch {CANARY})'",
    f'"$(touch {CANARY})"',
    f"';touch {CANARY};'",
    f'";touch {CANARY};"',
    f"\\';touch {CANARY};#",
    f'\\";touch {CANARY};#',
    f")touch {CANARY};(",
    f"a[$(touch {CANARY})]",
    f"-va[$(touch {CANARY})]",
    f"-v a[$(touch {CANARY})]",
    f"x=$(touch {CANARY})",
    f"|touch {CANARY}",
    f"&touch {CANARY}&",
    f"x touch {CANARY}",
    f"touch {CANARY}",
    "./run-me",
    "-c ./run-me",
    "./run-me ./run-me ./run-me",
    f"E\ntouch {CANARY}\nE\n",
]
BYTES = st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"x"))
HOSTILE = st.text("ab $`\"'\\;&|()<>{}#*?~\n\t\r!=%[]-@^", max_size=12).map(str.encode)
LINES = st.lists(
    BYTES | HOSTILE | st.sampled_from(ATTACKS).map(str.encode), min_size=1, max_size=4
).map(b"".join)


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a command that a line starts leaves its mark."""
    folder = tmp_path_factory.mktemp("trap")
    script = folder / "run-me"
    script.write_text(f"#!/bin/sh\n>{CANARY}\n")
    script.chmod(0o755)
    return folder


def run(shell: str, trap: Path, script: str) -> bytes:
    """What a script prints; nothing in a line may have run."""
    path = trap / "script"
    path.write_bytes(to_bytes(script))
    done = subprocess.run(
        [shell, str(path)],
        capture_output=True,
        cwd=trap,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        check=False,
    )
    assert not (trap / CANARY).exists(), script
    assert (done.stderr, done.returncode) == (b"", 0), script
    return done.stdout


# A template, and what its programs are to see of a line.
SHOW = "printf '%s\\0'"
ONE = [
    f"{SHOW} {{}}",
    f"{SHOW} '{{}}'",
    f'{SHOW} "{{}}"',
    f"{SHOW} ''{{}}''",
    f'{SHOW} """{{}}"""',
    f"X={{}}; {SHOW} \"$X\"",
    f'X="{{}}" && {SHOW} "$X"',
    f"for x in {{}}; do {SHOW} \"$x\"; done",
    f"case a in a) {SHOW} {{}};; esac",
    f"case {{}} in '{{}}') {SHOW} \"{{}}\";; esac",
    f"({SHOW} {{}}) # it's",
    f"{{ {SHOW} {{}}; }} 2>&1 | cat",
    f"if [ x{{}} = x'{{}}' ] && test \"{{}}x\" = {{}}x; then {SHOW} {{}}; fi",
    f"set -- {{}}; {SHOW} \"$@\"",
    f"sh -c '{SHOW.replace(chr(39), chr(34))} \"$1\"' sh {{}}",
    f"export X={{}}; {SHOW} \"$X\"",
    f"f() {{ {SHOW} \"$1\"; }}; f {{}}",
    f"true $((1 + 2)) ${{HOME}} `true` \\' && {SHOW} {{}}",
    f'env A={{}} sh -c \'{SHOW.replace(chr(39), chr(34))} "$A"\'',
]
DOTTED = [  # a substitution drops newlines at the end
    f'{SHOW} "$(printf %s. {{}})"',
    f'{SHOW} "$(printf %s. "{{}}")"',
    f"{SHOW} \"$(printf %s. '{{}}')\"",
    f'X=$(printf %s. {{}}); {SHOW} "$X"',
    f'{SHOW} "$(printf %s "$(printf %s. {{}})")"',
    f'{SHOW} "$(printf %s "$(printf %s "$(printf %s. "{{}}")")")"',
    f"{SHOW} {{}}.",
    f"{SHOW} '{{}}.'",
    f'{SHOW} "{{}}."',
]


@settings(max_examples=12, deadline=None)
@given(lines=st.lists(LINES, min_size=1, max_size=8))
@example(lines=[attack.encode() for attack in ATTACKS])
@example(lines=[bytes([number]) for number in range(1, 256)])
@example(lines=[bytes([number]) + b"'\"$(touch canary)" for number in range(128, 256)])
@pytest.mark.parametrize("shell", SHELLS)
def test_a_line_reaches_the_program_as_it_is_at_every_place(shell: str, trap: Path, lines: list[bytes]) -> None:
    templates = [(Template(with_quotes(text)), b"") for text in ONE]
    templates += [(Template(with_quotes(text)), b".") for text in DOTTED]
    cases = [(template, line, end) for line in lines for template, end in templates]
    output = run(shell, trap, "\n".join(template.expand(from_bytes(line)) for template, line, _ in cases))
    for (template, line, end), found in zip(cases, output.split(b"\0"), strict=False):
        assert found == line + end, (template.text, line)
    assert output.count(b"\0") == len(cases)


PATTERNS = ["{/}", "{.}", "{..}", "{/-}", "{-}", "{+}", "{++}", "{[0]}", "{[-1]}", "{= str(x) + '$x' =}", "{slot}"]


@settings(max_examples=25, deadline=None)
@given(line=LINES)
@example(line=b"/a b/$(touch canary)/c'd.e\"f")
@pytest.mark.parametrize("shell", SHELLS)
def test_operations_fields_and_words_are_quoted(shell: str, trap: Path, line: bytes) -> None:
    args = from_bytes(b"x" + line)
    script, expected = [], []
    for pattern in PATTERNS:
        plain = Template(pattern).expand(args, (), Slot(3, 8))
        for text, many in ((f"{SHOW} {pattern}", 1), (f"{SHOW} 'a {pattern}' \"{pattern}\"", 2)):
            script.append(Template(with_quotes(text)).expand(args, (), Slot(3, 8)))
            expected += [plain] if many == 1 else ["a " + plain, plain]
    words = args.split()
    for pattern, part in (("{[:]}", words), ("{[::-1]}", words[::-1]), ("{[:2]}", words[:2])):
        script.append(Template(with_quotes(f"{SHOW} - {pattern}")).expand(args))
        expected += ["-", *part]
        script.append(Template(with_quotes(f"X={pattern}; {SHOW} \"$X\" '{pattern}' x{pattern}")).expand(args))
        expected += [" ".join(part), " ".join(part), "x" + " ".join(part)]
    output = run(shell, trap, "\n".join(script))
    assert output.split(b"\0")[:-1] == [to_bytes(one) for one in expected]


@settings(max_examples=25, deadline=None)
@given(line=LINES, printed=LINES)
@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_command_printed_is_quoted(shell: str, trap: Path, line: bytes, printed: bytes) -> None:
    template = Template(with_quotes(f"{SHOW} {{% {SHOW} '@' \"$(printf %s @)\" @ %}} \"{{% date %}}\""))
    inner, date = template.commands(from_bytes(line))
    assert date == "date"
    seen = run(shell, trap, inner).split(b"\0")
    assert seen == [line, line.rstrip(b"\n"), line, b""]
    output = run(shell, trap, template.expand("x", [from_bytes(printed)] * 2))
    assert output.split(b"\0") == [printed, printed, b""]


# -- any template -------------------------------------------------------------------------------------------

PIECES = [
    *("{}", "'{}'", '"{}"', "x{}", "{[:]}", "{[0]}", "'", '"', "\\", "$", "`", "#", "*", "~", "&", "&&", "|", "||"),
    *(";;", "=", "-", "--", ">", ">>", "<", "2>", "<<", "@", "%s", "[", "]", "[[", "]]", "!", ":", ".", "-v", "-c"),
    *("-n", "-eq", "$(", "$((", "))", "${", "}", "$'", '$"', "; (", ")", "; ", "\n", "if", "then", "else", "fi"),
    *("case", "in", "esac", "for", "x", "do", "done", "X=", "echo", "printf", "test", "eval", "export", "read"),
    *("unset", "env", "nohup", "bash", "sh", "exec", "command", "set", "function", "time", "alias", "trap", "let"),
]
#: What a template begins with, so that most are taken.
BEGINNINGS = ["", "echo ", "true {}; ", "x=", 'echo "$(', "(", "if ", "for x in ", "case x in x) ", "sh -c 'true' "]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(BEGINNINGS),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=7),
    st.sampled_from([" ", ""]),
    st.sampled_from(ATTACKS),
)
def test_no_template_that_is_taken_lets_a_line_start_a_command(
    trap: Path, beginning: str, pieces: list[str], blank: str, attack: str
) -> None:
    try:
        command = Template(with_quotes(beginning + blank.join(pieces))).expand(attack)
    except (TemplateError, ExpansionError) as error:
        assert "\n" not in str(error)
        return
    for shell in SHELLS:
        subprocess.run([shell, "-c", command], cwd=trap, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        made = (trap / CANARY).exists()
        for path in trap.iterdir():  # what a template wrote is no program for the next one
            if path.name != "run-me":
                path.unlink()
        assert not made, (shell, command)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{}", "the name of the command"),
        ("./{/} x", "the name of the command"),
        ("cd x && {[0]}", "the name of the command"),
        ("X=1 {}", "the name of the command"),
        ("if {}; then true; fi", "the name of the command"),
        ("echo $({})", "the name of the command"),
        ("$(echo {})", "the name of the command"),
        ("env {} x", "the name of the command"),
        ("timeout 10 {}", "the name of the command"),
        ("srun -n 4 '{}'", "the name of the command"),
        ("eval {}", "eval reads it as a command"),
        ('eval "$(ls {})"', "eval reads it as a command"),
        ("unset {}", "unset reads it as a command or a name"),
        ("[[ {} -eq 1 ]]", "reads it as a command or a name"),
        ("[ -v {} ]", "name of a variable"),
        ("test {} {}", "name of a variable"),
        ("export {}", "export reads it as a name"),
        (". {}", "would read commands from it"),
        ("printf {}", "printf reads it as a format"),
        ("printf -v x {}", "printf reads it as a format or an option"),
        ("sh -c 'wc -l {}'", "sh runs it"),
        ("nice bash -o pipefail -c \"wc -l {} | cat\"", "bash runs it"),
        ("/bin/sh {}", "sh runs it"),
        ("echo `basename {}`", "between back quotes"),
        ("echo $(({} + 1))", r"\$\(\( \)\)"),
        ("((x = {}))", r"\(\( \)\)"),
        ("echo ${x:-{}}", r"in \$\{ \}"),
        ("cat <<E\n{}\nE", "a here-document"),
        ("cat <<<{}", "a here-document"),
        ("echo x # {}", "in a comment"),
        ("echo $'{}'", r"\$'\.\.\.', which is not sh"),
        ('echo $"{}"', "which is not sh"),
        ("echo \\{}", "directly after a backslash"),
        ('echo "\\{}"', "directly after a backslash"),
        ("echo $[{}]", r"\$\[ \]"),
        ("echo '{}", "' is never closed"),
        ('echo "$(echo {}"', "is never closed"),
        ('echo "$(case a in a) echo {};; esac)"', "'case' beside"),
        ("echo {} \0", "NUL"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_promised_is_refused_by_name(template: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason) as caught:
        Template(with_quotes(template))
    message = str(caught.value)
    assert "\n" not in message
    if "NUL" not in reason:
        assert re.search(r"\{[^:]*\} cannot be quoted safely: .*; put the command in a script", message)


def test_a_command_of_a_template_that_quotes_is_held_to_the_same() -> None:
    assert Template("{% @ %}").commands("date") == ("date",)
    with pytest.raises(TemplateError, match=r"cannot take @ safely: it would be the name of the command"):
        Template("echo {% @ %:q}")


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("wc -l {}", "wc -l {:q}"),
        ("a {/-} {[0]} {[1:2]} { .. }", "a {/-:q} {[0]:q} {[1:2]:q} { .. :q}"),
        ("a {% date %} {= x =} {slot}", "a {% date %:q} {= x =:q} {slot:q}"),
        ("a {:q} {/ :q } {% d %:q} {= 1 =:q} {slot:q}", "a {:q} {/ :q } {% d %:q} {= 1 =:q} {slot:q}"),
        ("awk '{print $1}' ${x:-y} {{}} {}", "awk '{print $1}' ${x:-y} {{}} {:q}"),
        ("date", "date"),
    ],
)
def test_the_option_is_the_same_as_q_in_every_pattern(text: str, quoted: str) -> None:
    assert with_quotes(text) == quoted
    assert with_quotes(quoted) == quoted
    assert Template(quoted).quotes == (text != "date")


def test_one_pattern_may_quote_and_another_not() -> None:
    template = Template("{[0]} -n {slot} {[1:]:q} {}")
    assert template.expand("wc a $x", (), Slot(2, 4)) == "wc -n 2 a '$x' wc a $x"


def test_names_without_signs_stay_as_they_are() -> None:
    """So that they need no shell."""
    assert Template("wc -l {:q} '{:q}' \"{/:q}\"").expand("a/b.txt") == "wc -l a/b.txt 'a/b.txt' \"b.txt\""


def test_q_is_no_mistyped_pattern_and_others_are() -> None:
    for text in ("{//:q}", "{[x]:q}", "{[0]:r}", "{[::0]:q}"):
        with pytest.raises(TemplateError):
            Template(text)
    assert Template("{/:r} {:qq} {}").expand("x") == "{/:r} {:qq} x"


# -- cmd.exe ------------------------------------------------------------------------------------------------


def arguments_of_windows(line: str) -> list[str]:
    """What cmd.exe starts, by its rule, and the arguments that the C runtime makes of it; no operator may be left.

    Written from the documentation of both: cmd.exe toggles at each quotation mark, the runtime knows ``\\"``.
    """
    quoted, kept = False, ""
    for sign in line:
        quoted ^= sign == '"'
        assert quoted or sign not in "&|<>()^\n", line
        assert sign not in "%\r\n", line
        kept += sign
    assert not quoted, line
    found: list[str] = []
    for word in re.finditer(r'(?:[^ \t"\\]|\\+"?|"(?:[^"\\]|\\+"?)*(?:"|$))+', kept):
        text, inside, position = "", False, 0
        while position < len(word[0]):
            slashes = re.compile(r"\\*").match(word[0], position)
            assert slashes is not None
            position = slashes.end()
            count = len(slashes[0])
            sign = word[0][position : position + 1]
            position += 1
            if sign == '"':
                text += "\\" * (count // 2)
                if count % 2:
                    text += '"'
                else:
                    inside = not inside
            else:
                text += slashes[0] + sign
        found.append(text)
    return found


WINDOWS = [
    ("show.exe {}", "{}"),
    ('show.exe "{}"', "{}"),
    ('show.exe "a {} b"', "a {} b"),
    ("show.exe x{}y", "x{}y"),
    ('show.exe "C:\\data\\{}"', "C:\\data\\{}"),
    ("cd x && show.exe {}", "{}"),
]
WINDOWS_LINES = st.text(" ab\\&|<>^()!'`$;,=~\té\u3000\U0001f600", max_size=15) | st.text(
    st.characters(exclude_characters='\0%"', exclude_categories=["Cs", "Cc"]), max_size=15
)


@given(WINDOWS_LINES)
@example("a\\")
@example("\\\\server\\share\\")
@example("x&calc")
def test_under_cmd_a_line_is_one_argument(line: str) -> None:
    for text, expected in WINDOWS:
        command = Template(with_quotes(text), windows=True).expand(line)
        assert arguments_of_windows(command.removeprefix("cd x && "))[1:] == [expected.replace("{}", line)], command


@given(st.text(min_size=1, max_size=5), st.sampled_from(list('%"\n\r\x01')))
def test_under_cmd_a_line_that_cannot_be_promised_fails_its_task(line: str, sign: str) -> None:
    for text, _ in WINDOWS:
        with pytest.raises(ExpansionError, match=r"^\{\}: .* cannot be quoted for cmd.exe") as caught:
            Template(with_quotes(text), windows=True).expand(line + sign + line)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{}", "the name of the command"),
        ("dir & {}", "the name of the command"),
        ("(\"{}\" x)", "the name of the command"),
        ("call x {}", "call reads it once more"),
        ("C:\\Windows\\cmd.exe /c {}", "cmd.exe reads it"),
        ("for %i in (a) do x {}", "behind a single %"),
        ("if exist {} x", "if reads it"),
        ("type C:\\data\\{}", "a backslash, .* stands beside it"),
        ('type "{}\\x"', "directly behind it"),
        ('type "{}{}"', "directly behind it"),
        ("type {}{}", "beside"),
        ('type {}"x"', "beside"),
        ('type "C:\\x\\" {}', "read differently"),
        ('type "a""b" {}', "read differently"),
        ("echo ^{}", r"directly after \^"),
        ('type "{}', "never closed"),
    ],
)  # fmt: skip
def test_under_cmd_a_place_that_cannot_be_promised_is_refused_by_name(template: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=f"cannot be quoted safely: .*{reason}"):
        Template(with_quotes(template), windows=True)


def test_under_cmd_words_outputs_and_commands_are_quoted_too() -> None:
    template = Template(with_quotes('copy {[0]} "{[1:]}" {% dir "@" @ @@ %}'), windows=True)
    assert template.commands("a&b c") == ('dir "a&b c" "a&b c" @',)
    assert template.expand("a&b c d", ["x y"]) == 'copy "a&b" "c d" "x y"'
    assert Template(with_quotes("dir {[:]}"), windows=True).expand("a b&c") == 'dir a "b&c"'
