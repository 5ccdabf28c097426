"""Sizes and durations: every accepted form, every refused one, and the way there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.errors import ExitStatus, UsageError
from hypershell.units import (
    MAX_DURATION,
    UnitError,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    shown,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("100B", 100),
        ("4G", 4 * 1024**3),
        ("8g", 8 * 1024**3),
        ("512M", 512 * 1024**2),
        ("1.5GB", 1536 * 1024**2),
        ("10KiB", 10240),
        ("2 TB", 2 * 1024**4),
        (" 1P ", 1024**5),
        ("1.5", 1),
        ("9007199254740993", 2**53 + 1),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "+1",
        "nan",
        "inf",
        "1e3",
        "4Gx",
        "x4G",
        "G",
        ".5G",
        "1.G",
        "4 G B",
        "4iB",
        "1_000",
        "\u0664G",
        "4\u212a",
        "4GG",
        "0x10",
        "4G\n5",
        "9223372036854775808",
        "8192P",
        "9" * 5000,
    ],
)
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_size(text)
    assert shown(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_are_usage_errors_that_show_the_forms() -> None:
    with pytest.raises(UsageError, match="512M") as caught:
        parse_size("four gigs")
    assert caught.value.exit_status == ExitStatus.BAD_ARGUMENT
    with pytest.raises(UsageError, match="1h30m"):
        parse_duration("soon")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0.00B"),
        (1, "1.00B"),
        (64, "64.0B"),
        (999, "999B"),
        (1000, "0.977KB"),
        (1023, "0.999KB"),
        (1024, "1.00KB"),
        (10235, "10.0KB"),
        (102400, "100KB"),
        (1023400, "999KB"),
        (1023500, "0.976MB"),
        (3551232, "3.39MB"),
        (64 * 1024**2, "64.0MB"),
        (2**63 - 1, "8192PB"),
        (-2048, "-2.00KB"),
        (1.5, "1.50B"),
    ],
)
def test_human_sizes(size: float, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 2**63 - 1))
def test_bytes_survive_the_round_trip(size: int) -> None:
    assert parse_size(str(size)) == size


@given(st.integers(0, 2**62))
def test_human_sizes_can_be_read_back_to_three_digits(size: int) -> None:
    text = format_size(size)
    assert len(text.rstrip("BKMGTP")) <= 5
    assert abs(parse_size(text) - size) <= size * 0.006 + 1


@given(st.integers(0, 2**20), st.sampled_from("KMGT"), st.sampled_from(["", "B", "iB"]))
def test_units_are_powers_of_1024_in_any_case(number: int, unit: str, tail: str) -> None:
    size = number * 1024 ** (" KMGT".index(unit))
    assert parse_size(f"{number}{unit}{tail}") == parse_size(f"{number}{unit}{tail}".lower()) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("1.5", 1.5),
        ("30s", 30),
        ("10m", 600),
        ("10M", 600),
        ("2h", 7200),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d", 86400),
        ("1d2h3m4.5s", 93784.5),
        ("30:00", 1800),
        ("90:00", 5400),
        ("2:00:00", 7200),
        ("100:00:01", 360001),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-12:00:00", 129600),
        (" 5m ", 300),
        ("36525d", 3_155_760_000),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-5",
        "+5",
        "nan",
        "inf",
        "1e3",
        "10x",
        "m",
        "30m1h",
        "1h30",
        "1:60",
        "1:00:60",
        "1:60:00",
        "1-24",
        "1-",
        "-1:00",
        "1:",
        ":30",
        "1:2:3:4",
        "1-1:2:3:4",
        "1.5:00",
        "5 5",
        "\u0665m",
        "9" * 400,
    ],
)
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration(text)
    assert shown(text) in str(caught.value)


@pytest.mark.parametrize("text", ["9" * 20, "36525d1s", "99999999999h", "36525-00:00:01", "9999999999:00:00"])
def test_what_is_too_long_is_said_so_with_the_limit(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration(text)
    assert str(caught.value) == f"{shown(text)} is too long for a duration: at most 3155760000 s, a hundred years"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00"),
        (0.999, "0:00:00"),
        (61, "0:01:01"),
        (3600, "1:00:00"),
        (129600, "36:00:00"),
        (-5, "-0:00:05"),
        (-0.5, "0:00:00"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_durations_are_shown_as_hours_minutes_seconds(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, MAX_DURATION))
def test_shown_durations_can_be_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text())
def test_any_text_is_a_number_or_a_named_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            assert parse(text) >= 0
        except UnitError as error:
            assert "\n" not in str(error)


@given(st.text())
def test_shown_text_is_short_and_on_one_line(text: str) -> None:
    assert len(shown(text * 50).splitlines()) == 1
    assert shown("x" * 10**6) == repr("x" * 57 + "...")
