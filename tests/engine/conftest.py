"""Fixtures of the end-to-end tests: a lab, and an engine in a folder."""
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lab")]

from engine import Engine  # noqa: E402
from labkit import start_lab  # noqa: E402,F401


@pytest.fixture
def start_engine(start_lab, tmp_path):  # noqa: F811
    """start_engine(world) -> Engine on a lab of its own; leaves nothing."""
    engines = []

    def start(world):
        folder = tmp_path / f"engine{len(engines)}"
        folder.mkdir()
        engines.append(Engine(start_lab(world), folder))
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop_all()
        engine.wait_for_quiet()
        log = folder_logs(engine)
        assert "Sanitizer" not in log and "runtime error" not in log, log
        assert engine.vcenter["password"] not in log
        assert not engine.lab.ctl("world")["violations"]


def folder_logs(engine):
    """Everything a process of the engine wrote, records included."""
    return "\n".join(path.read_text(errors="replace")
                     for path in engine.folder.rglob("*")
                     if path.suffix in (".log", ".json", ".jsonl"))
