"""Starts labs for tests: the `lab` fixture and the control port's client."""
import json
import os
import pathlib
import subprocess
import urllib.error
import urllib.request

import pytest

BUILD = os.environ.get("V2C_BUILD")


def program(name):
    """Path of a built program; skips by name where it is missing."""
    if not BUILD:
        pytest.skip("V2C_BUILD does not name the build directory")
    path = pathlib.Path(BUILD) / name
    if not path.exists():
        pytest.skip(f"{path} is not built")
    return str(path)


class Refused(Exception):
    """The control port said no."""


class Lab:
    """A running lab; attributes are those of lab.json."""

    def __init__(self, directory, world=None):
        self.dir = str(directory)
        self.program = program("lab/v2c-lab")
        argv = [self.program, "up", "--dir", self.dir, "--detach"]
        if world is not None:
            path = pathlib.Path(f"{self.dir}.json")
            path.write_text(json.dumps(world))
            argv += ["--world", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        state = json.loads((pathlib.Path(self.dir) / "lab.json").read_text())
        self.pid = state["pid"]
        self.control = state["control"]
        self.vddk_path = state["vddk_path"]
        self.vcenter = state["vcenter"]
        self.vms = {vm["name"]: vm for vm in state["vms"]}

    def ctl(self, verb, **keys):
        """Posts to the control port; raises Refused with its reason."""
        request = urllib.request.Request(
            f"{self.control}/{verb}", json.dumps(keys).encode(),
            {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error)["error"]) from None

    def state(self, vm):
        """What the lab itself knows of a VM, by name."""
        for it in self.ctl("world")["vms"]:
            if it["name"] == vm:
                return it
        raise KeyError(vm)

    def truth(self, vm, disk, path, snapshot=None):
        """The bytes of a disk as the lab knows them."""
        keys = {"snapshot": snapshot} if snapshot else {}
        self.ctl("truth", vm=vm, disk=disk, file=str(path), **keys)
        return pathlib.Path(path).read_bytes()

    def down(self):
        done = subprocess.run([self.program, "down", "--dir", self.dir],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # a zombie that its reaper has not met yet counts as gone
    return "\nState:\tZ" in pathlib.Path(f"/proc/{pid}/status").read_text()


@pytest.fixture
def start_lab(tmp_path):
    """start_lab(world) -> Lab; all are stopped, and nothing may be left."""
    labs = []

    def start(world=None):
        labs.append(Lab(tmp_path / f"lab{len(labs)}", world))
        return labs[-1]

    yield start
    for lab in labs:
        log = pathlib.Path(lab.dir) / "lab.log"
        assert not gone(lab.pid), log.read_text()
        lab.down()
        assert gone(lab.pid)
        assert not (pathlib.Path(lab.dir) / "lab.json").exists()
        text = log.read_text()
        assert "Sanitizer" not in text and "runtime error" not in text, text


@pytest.fixture
def lab(start_lab):
    """The built-in world."""
    return start_lab()


def small_world(**vm):
    """One VM with one disk of a few MiB and a quiet guest."""
    base = {"name": "vm1", "disks": [{"size": 8 << 20, "content": "random"}]}
    base.update(vm)
    return {"task_ms": 4, "vms": [base]}
