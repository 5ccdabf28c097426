"""The soak runner: what it says, and with which status it ends. Its checks are tested by running them."""

from __future__ import annotations

import pytest

from tests.soak import Absent, Check, Failed, main


def passes(size: int) -> str:
    return f"{size} things"


def fails(size: int) -> str:
    raise Failed("the reason")


def lacks(size: int) -> str:
    raise Absent("no such wheel")


def check(name: str) -> Check:
    return Check(name, f"what {name} does", 100, 7, {"good": passes, "bad": fails, "missing": lacks}[name])


def test_all_passed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], [check("good")]) == 0
    assert ["good", "what", "good", "does", "100", "things", "0", "passed"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


def test_one_failed_and_the_others_still_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], [check("bad"), check("good")]) == 1
    said = capsys.readouterr()
    assert "bad: the reason" in said.err
    assert "FAILED" in said.out and "100 things" in said.out


def test_quick_takes_the_small_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick"], [check("good")]) == 0
    assert "7 things" in capsys.readouterr().out


def test_only_the_named_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "good"], [check("bad"), check("good")]) == 0
    assert "what bad does" not in capsys.readouterr().out


@pytest.mark.parametrize(("ci", "status", "word"), [("true", 1, "FAILED"), ("", 0, "not run")])
def test_what_is_absent_fails_only_where_all_is_promised(
    ci: str, status: int, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI", ci)
    assert main([], [check("missing")]) == status
    said = capsys.readouterr().out
    assert "no such wheel" in said and word in said
