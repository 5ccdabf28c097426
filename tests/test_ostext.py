"""Text of bytes: nothing is lost on the way there and back, and every encoder takes what is shown."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hypershell import ostext
from hypershell.core.model import Submission
from hypershell.data.how import exports_options
from hypershell.data.submitted import row_of, submission_of
from hypershell.data.where import parse_condition
from hypershell.hosts import host_name
from hypershell.net.addresses import advertised
from hypershell.server.feed import task_of
from hypershell.server.terms import Terms, Wishes
from hypershell.tags import Directives

LATIN = b"caf\xe9"
MIXED = st.lists(st.binary(max_size=4) | st.sampled_from([LATIN, b"\\xe9", "é".encode(), b"_raw"])).map(b"".join)
PLAIN = MIXED.map(lambda data: data.replace(b"\0", b""))


@given(MIXED)
@example(b"\xc3")
@example("é€𐍈".encode())
def test_bytes_come_back_and_what_is_shown_is_text(data: bytes) -> None:
    text = ostext.from_bytes(data)
    assert ostext.to_bytes(text) == data
    assert text == data.decode("utf-8", "surrogateescape")
    shown = ostext.escaped(text)
    assert json.loads(json.dumps(shown, ensure_ascii=False).encode()) == shown
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(shown)) == shown
    assert ostext.raw_of(text) == (None if shown.encode() == data else data)


def test_what_is_shown_is_what_lines_show() -> None:
    text = ostext.from_bytes(LATIN)
    assert ostext.escaped(text) == r"caf\xe9" == task_of("id", text, 1, Directives(), 0.0).args
    assert task_of("id", text, 1, Directives(), 0.0).raw == LATIN


@given(st.text(st.characters(codec=None, categories=["Cs", "Ll"])))
def test_no_text_makes_it_fail(text: str) -> None:
    """Names on Windows, and templates, can hold surrogates that stand for no byte."""
    ostext.to_bytes(text)
    ostext.escaped(text).encode()
    ostext.in_quotes(text)


def test_halves_that_are_whole_together() -> None:
    """A template can cut a letter in two and join it again."""
    halves = "\udcc3" + "\udca9"
    assert ostext.escaped(halves) == "é"
    assert ostext.raw_of(halves) is None
    assert task_of("id", halves, 1, Directives(), 0.0).args == "é"


@given(st.dictionaries(st.sampled_from(["path", "cwd", "template"]), MIXED))
def test_json_holds_text_and_the_bytes_beside_it(found: dict[str, bytes]) -> None:
    texts = {name: ostext.from_bytes(data) for name, data in found.items()}
    fields = json.loads(json.dumps({"other": 1, **ostext.beside(texts)}, ensure_ascii=False).encode())
    shown = {name: fields.pop(name) for name in texts}
    assert ostext.cut_beside(fields, shown) == texts
    assert fields == {"other": 1}


@pytest.mark.parametrize("raw", ["no hex", "e9", 7, None])
def test_bytes_that_are_not_those_of_the_text_are_not_believed(raw: object) -> None:
    assert ostext.cut_beside({"cwd_raw": raw}, {"cwd": r"caf\xe9"}) == {"cwd": r"caf\xe9"}


@given(PLAIN | st.none(), PLAIN, PLAIN, st.sampled_from(["{}", '{"exports":{"a_raw":"e9"}}']))
def test_a_submission_comes_back_from_its_row(
    path: bytes | None, template: bytes, cwd: bytes, options: str
) -> None:
    of_file, of_template, of_cwd = (ostext.from_bytes(data or b"") for data in (path, template, cwd))
    name = None if path is None else of_file
    one = Submission(1, "file", name, of_template, options, of_cwd, "run", "host", 0.0)
    row = row_of(one)
    for column in ("path", "template", "cwd", "options"):
        (row[column] or "").encode()  # fails for what is no text
    assert submission_of(row) == one


@given(PLAIN)
def test_a_template_of_submit_comes_back(data: bytes) -> None:
    terms = Terms(ostext.from_bytes(data), {"site": "west"}, 1)
    options = terms.to_options(Wishes(keep_output=True))
    assert json.loads(options.encode())["submit"]["template"] == ostext.escaped(terms.template)
    assert Terms.of_options(options) == terms
    assert Wishes.of_options(options).keep_output


def test_exports_are_told_apart_by_their_bytes() -> None:
    latin, text = ({"WORD": word} for word in (ostext.from_bytes(LATIN), r"caf\xe9"))
    assert exports_options(text) == {"exports": {"WORD": r"caf\xe9"}}
    assert exports_options(latin) == {"exports": {"WORD": r"caf\xe9"}, "exports_raw": [(b"WORD=" + LATIN).hex()]}


def test_words_that_are_shown_are_read_again_by_bash() -> None:
    letters = [b"a", b"e", b"9", b"'", b'"', b"\\", b"$", b" ", b"\n", b"`", b"!", b"\xe9", b"\xff", "é".encode()]
    words = [b"", *(one + two + three for one in letters for two in letters for three in letters)]
    line = ostext.joined(map(ostext.from_bytes, words))
    line.encode()
    done = subprocess.run(["bash", "-s"], input=f"printf '%s\\0' {line}".encode(), capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == words
    assert ostext.quoted(ostext.from_bytes(LATIN)) == r"$'caf\xe9'"


@given(PLAIN)
def test_conditions_find_what_is_shown(data: bytes) -> None:
    text = ostext.from_bytes(data)
    assert parse_condition(f"args == x{text}x").value == ostext.escaped(f"x{text}x")
    pattern = parse_condition(f"args ~ {re.escape(text)}").value
    assert isinstance(pattern, str) and re.search(pattern, ostext.escaped(text))


def test_in_quotes_a_byte_is_no_backslash_of_the_text() -> None:
    assert ostext.in_quotes(os.fsdecode(LATIN)) == r"'caf\xe9'"
    assert ostext.in_quotes(r"caf\udce9é") == r"'caf\\udce9é'"
    assert ostext.in_quotes(os.fsdecode(rb"\ " + LATIN)) == r"'\\ caf\xe9'"


def test_a_host_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = ostext.from_bytes(LATIN)
    monkeypatch.setattr(platform, "node", lambda: name)
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert host_name() == r"caf\xe9"
    with socket.create_server(("0.0.0.0", 0)) as listening:
        assert not any("caf" in address for address in advertised([listening]))
