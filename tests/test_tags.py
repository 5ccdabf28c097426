"""Tags: typing of values, reserved keys, validation of every word, precedence, environment names."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.errors import UsageError
from hypershell.tags import Directives, Scalar, TagError, coerce, env_name, is_tag, parse_tags

WORD = st.text("ABCxyz019_.+-", min_size=1, max_size=120)
RESERVED = {"group", "cores", "memory", "timeout", "part"}
DIRECTIVES = st.builds(
    Directives,
    tags=st.dictionaries(WORD, st.none() | st.booleans() | st.integers() | WORD, max_size=4),
    group=st.none() | st.integers(0, 9),
    cores=st.none() | st.integers(0, 9),
    memory=st.none() | st.integers(0, 9),
    timeout=st.none() | st.floats(0, 9),
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("None", None),
        ("TRUE", True),
        ("false", False),
        ("0", 0),
        ("-12", -12),
        ("20240101", 20240101),
        ("1.5", 1.5),
        ("-0.25", -0.25),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_values_are_typed(text: str, value: Scalar) -> None:
    assert coerce(text) == value
    assert type(coerce(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "007",
        "+1",
        "-0",
        "1.10",
        "1.",
        ".5",
        "1e5",
        "1_000",
        "0x10",
        "nan",
        "inf",
        "Infinity",
        "2024-01-01",
        "\u0663",
        "9223372036854775808",
        "-9223372036854775809",
        "12345678901234567.5",
        " 1",
        "us-west",
        "nulls",
        "1.2.3",
    ],
)
def test_what_would_not_print_back_stays_text(text: str) -> None:
    assert coerce(text) == text


@given(st.text() | st.from_regex(r"[-+]?[0-9]*\.?[0-9]*(e[0-9]+)?", fullmatch=True))
def test_a_number_prints_back_as_its_text(text: str) -> None:
    value = coerce(text)
    if value is None or isinstance(value, bool):
        assert text.lower() in ("null", "none", "true", "false")
    else:
        assert str(value) == text


def test_tags_and_reserved_keys() -> None:
    words = ["site:us-west", "n:1", "ok:true", "x", "y:", "group:2", "cores:4", "memory:4G", "timeout:1h30m"]
    assert parse_tags([*words, "part:7"]) == Directives(
        tags={"site": "us-west", "n": 1, "ok": True, "x": "", "y": ""},
        group=2,
        cores=4,
        memory=4 * 1024**3,
        timeout=5400.0,
    )


def test_nothing_said_is_none_and_zero_is_said() -> None:
    assert parse_tags([]) == Directives() == Directives({}, None, None, None, None)
    said = parse_tags(["cores:0", "memory:0", "timeout:0"])
    assert said.over(Directives(cores=4, memory=5, timeout=6.0)) == said


def test_timeouts_may_hold_colons() -> None:
    assert parse_tags(["timeout:1-12:00:00"]).timeout == 129600
    assert parse_tags(["timeout:10m"]).timeout == 600


def test_the_last_of_one_key_counts() -> None:
    assert parse_tags(["a:1", "a:2", "cores:1", "cores:2"]) == Directives(tags={"a": 2}, cores=2)


@pytest.mark.parametrize(
    "word",
    [
        "",
        ":",
        ":x",
        "a/b",
        "a:b/c",
        "a:b:c",
        "a:b=c",
        "a=b",
        "a b",
        "a:\u00e9",
        "\udcff",
        "a:b\n",
        "#",
        "k" * 121,
        "a:" + "v" * 121,
        "part:a/b",
        "part/",
    ],
)
def test_bad_words_are_refused_by_name(word: str) -> None:
    with pytest.raises(TagError) as caught:
        parse_tags(["good:1", word])
    assert "bad tag" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not is_tag(word)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("cores:x", "cores takes a whole number"),
        ("cores", "cores takes a whole number"),
        ("cores:-1", "cores takes a whole number"),
        ("cores:1.5", "cores takes a whole number"),
        ("group:two", "group takes a whole number"),
        ("group:2147483648", "group takes a whole number"),
        ("memory", "not a size"),
        ("memory:lots", "not a size"),
        ("timeout:", "not a duration"),
        ("timeout:soon", "not a duration"),
    ],
)
def test_reserved_keys_are_typed_or_refused(word: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"bad tag '{word}': .*{reason}"):
        parse_tags([word])


def test_words_after_a_naked_tag_are_checked_too() -> None:
    with pytest.raises(TagError, match="bad/one"):
        parse_tags(["naked", "bad/one"])


@given(WORD, WORD | st.just(""))
def test_every_word_of_the_alphabet_is_a_tag(key: str, value: str) -> None:
    assert is_tag(f"{key}:{value}")
    assert parse_tags([f"{key}:{value}"]).tags == {key: coerce(value)}


@given(st.lists(st.text()))
def test_any_words_parse_or_are_named(words: list[str]) -> None:
    try:
        directives = parse_tags(words)
    except TagError as error:
        assert "\n" not in str(error)
    else:
        assert set(directives.tags) == {word.partition(":")[0] for word in words} - RESERVED


@given(DIRECTIVES, DIRECTIVES, DIRECTIVES)
def test_over_is_a_merge_where_the_left_wins(a: Directives, b: Directives, c: Directives) -> None:
    merged = a.over(b)
    for name in ("group", "cores", "memory", "timeout"):
        mine, theirs = getattr(a, name), getattr(b, name)
        assert getattr(merged, name) == (theirs if mine is None else mine)
    assert merged.tags.items() >= a.tags.items()
    assert merged.tags.keys() == a.tags.keys() | b.tags.keys()
    assert a.over(b).over(c) == a.over(b.over(c))
    assert a.over(Directives()) == Directives().over(a) == a


def test_directives_do_not_share_their_tags() -> None:
    first, second = Directives(), Directives()
    assert first.tags is not second.tags
    assert parse_tags(["a:1"]).over(first).tags is not first.tags


def test_directives_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Directives().group = 1  # type: ignore[misc]


@given(st.text(min_size=1))
def test_env_names_can_be_used_from_sh(key: str) -> None:
    assert re.fullmatch(r"TASK_TAG_[A-Z0-9_]+", env_name(key))


def test_a_key_with_punctuation_reaches_sh() -> None:
    assert env_name("run-1.x+y") == "TASK_TAG_RUN_1_X_Y"
    result = subprocess.run(
        ["/bin/sh", "-c", 'printf %s "$TASK_TAG_A_B"'],
        env={env_name("a-b"): "seen"},
        capture_output=True,
        check=True,
    )
    assert result.stdout == b"seen"


@pytest.mark.parametrize(
    "word", ["os:linux", "os:darwin", "os:macos", "os:windows", "os:posix", "os:any", "label:gpu"]
)
def test_words_that_choose_clients_stay_tags(word: str) -> None:
    key, value = word.split(":")
    assert parse_tags([word]).tags == {key: value}


def test_a_system_is_named_in_any_case_and_a_label_is_always_text() -> None:
    assert parse_tags(["os:Windows", "label:007", "label:true"]).tags == {"os": "windows", "label": "true"}


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("os", "os is one of linux, darwin, macos, windows, posix, any"),
        ("os:", "os is one of"),
        ("os:amiga", "bad tag 'os:amiga': os is one of linux"),
        ("label", "label takes the label of a client"),
        ("label:", "label takes the label of a client"),
        ("label:a/b", "a value is made of"),
    ],
)
def test_words_that_choose_no_client_are_refused(word: str, why: str) -> None:
    with pytest.raises(TagError, match=re.escape(why)):
        parse_tags([word])
