import pathlib
import shutil
import tempfile

import pytest

import world


@pytest.fixture(scope="session", autouse=True)
def built():
    if not world.program().exists():
        pytest.exit(f"{world.program()} is not there: build first", 1)


@pytest.fixture
def room():
    """A directory with a short name: socket paths are limited."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="v2c-copy."))
    yield path
    shutil.rmtree(path)
