"""What the command line does when something goes wrong: one sentence, a status, and no traceback unless asked for."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import run

MISTAKES = [
    ("nonsense",),
    ("fit",),
    ("fit", "nowhere", "-o", "out"),
    ("fit", "nowhere", "-o", "out", "--preset", "gan"),
    ("fit", "nowhere", "-o", "out", "-s", "dmi=3"),
    ("fit", "nowhere", "-o", "out", "--epochs", "many"),
    ("fit", "nowhere", "-o", "out", "--epochs", "0"),
    ("fit", "nowhere", "-o", "out", "--fit", "squeeze"),
    ("fit", "nowhere", "-o", "out", "--resume"),
    ("info", "nowhere"),
    ("check", "nowhere"),
    ("report", "nowhere"),
    ("classify", "nowhere"),
    ("classify", "nowhere", "nothing"),
    ("classify", "nowhere", "nothing", "-s", "methd=svm"),
    ("evaluate", "juggle", "nowhere", "nothing"),
    ("check", "[bold]no[/bold]where"),
]


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_mistakes_are_answered_in_one_sentence(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(*arguments)
    assert said.status == 2
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("apercu: ")
    assert "Traceback" not in said.err
    as_json = run(*arguments, "--json")
    assert as_json.status == 2
    assert f"apercu: {as_json.answer['error']}" == said.err.splitlines()[-1]


def test_our_faults_are_called_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("the first line\nthe second")

    monkeypatch.setattr("apercu.data.check.check", fail)
    said = run("check", "sklearn:digits")
    assert said.status == 1
    assert "a fault of Apercu" in said.err
    assert "KeyError" in said.err
    assert "Traceback" not in said.err
    assert "--debug" in said.err
    assert "KeyError" in run("check", "sklearn:digits", "--json").answer["error"]
    debugged = run("check", "sklearn:digits", "--debug")
    assert debugged.status == 1
    assert "Traceback" in debugged.err


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(13, "denied", "a [b]")])
def test_what_the_machine_refuses_is_no_fault_of_ours(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("apercu.data.check.check", fail)
    assert run("check", "sklearn:digits").status == 2


@pytest.mark.parametrize(
    ("out", "advice"),
    [("taken", "name another"), ("taken/model", "name another folder"), ("m" * 300, "a shorter name")],
)
def test_a_folder_that_cannot_be_written_is_answered_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, advice: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("not a folder")
    said = run(
        "fit", "sklearn:digits", "-o", out, "--epochs", "1", "--preset", "ae", "-s", "width=8", "--device", "cpu"
    )
    assert said.status == 2
    assert said.err.splitlines()[-1].startswith(f"apercu: {out}")
    assert advice in said.err.splitlines()[-1]
    assert Path("taken").read_text() == "not a folder"


def test_statuses_reach_the_shell(tmp_path: Path) -> None:
    def shell(line: str) -> subprocess.CompletedProcess[str]:
        command = line.replace("apercu", f'"{sys.executable}" -m apercu')
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)

    assert shell("apercu presets --json").returncode == 0
    assert shell("apercu fit nowhere").returncode == 2
    assert shell("apercu presets | true").stderr == ""


def test_ctrl_c_anywhere_else_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("apercu.data.check.check", interrupt)
    said = run("check", "sklearn:digits", "--json")
    assert (said.status, said.answer) == (130, {"error": "stopped"})


def test_only_the_first_of_several_processes_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run("presets", "--json").out == ""


def test_logging_is_as_before() -> None:
    run("presets")
    assert logging.root.manager.disable == logging.NOTSET
