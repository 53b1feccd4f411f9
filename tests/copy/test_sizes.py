"""Disks whose size fits no block, and huge ones: a whole life of each, read
from a file, an NBD server and the lab's VDDK."""
import os
import pathlib
import subprocess
import sys

import pytest

import world
from world import BLOCK, Copier, nbdkit, put, qemu_nbd

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent / "lab")]
from labkit import start_lab  # noqa: E402,F401

KiB, MiB, TiB = 1 << 10, 1 << 20, 1 << 40
SMALL = [512, 63 * KiB, BLOCK + 512]
HUGE = 2 * TiB + 512
SECTOR = 512

missing = world.needs("qemu-nbd", "qemu-img", "nbdkit")
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no {missing}")


class FromFile:
    def __init__(self, room, size):
        self.path = room / "source"
        with open(self.path, "wb") as f:
            f.truncate(size)
        self.keys = {"source.kind": "file", "source.file": self.path}
        self.environment = {}

    def write(self, offset, length, seed):
        put(self.path, offset, world.noise(length, seed))

    def truth(self):
        return self.path

    def stop(self):
        pass


class FromNbd(FromFile):
    def __init__(self, room, size):
        super().__init__(room, size)
        self.server = nbdkit(room, "-r", "file", self.path)
        self.keys = {"source.kind": "nbd", "source.uri": self.server.uri}

    def stop(self):
        self.server.stop()


class FromVddk:
    """A VM that is off: its disk is read without a snapshot."""

    def __init__(self, room, size, lab):
        self.lab, self.file = lab, room / "truth"
        center = lab.vcenter
        self.keys = {
            "source.kind": "vddk", "source.libdir": lab.vddk_path,
            "source.server": center["host"], "source.port": center["port"],
            "source.user": center["user"],
            "source.password": center["password"],
            "source.thumbprint": center["sha1"],
            "source.vm": lab.vms["vm1"]["moref"],
            "source.path": "[datastore1] vm1/vm1.vmdk",
        }
        self.environment = {"LD_LIBRARY_PATH": f"{lab.vddk_path}/lib64"}

    def write(self, offset, length, seed):
        self.lab.ctl("write", vm="vm1", disk=2000, offset=offset,
                     length=length, seed=seed)

    def truth(self):
        self.lab.ctl("truth", vm="vm1", disk=2000, file=str(self.file))
        return self.file

    def stop(self):
        pass


@pytest.fixture
def disk_of(room, request):
    """disk_of(kind, size) -> a source of zeroes."""
    disks = []

    def make(kind, size):
        if kind == "vddk":
            lab = request.getfixturevalue("start_lab")({
                "task_ms": 4, "vms": [{"name": "vm1", "power": "poweredOff",
                                       "disks": [{"size": size}]}]})
            disks.append(FromVddk(room, size, lab))
        else:
            disks.append({"file": FromFile, "nbd": FromNbd}[kind](room, size))
        return disks[-1]

    yield make
    for disk in disks:
        disk.stop()


class Target:
    """A new qcow2 image, served from `copier` to `is_copy_of`."""

    def __init__(self, room, size):
        self.room, self.image = room, room / "target"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.image,
                        str(size)], check=True)

    def copier(self, disk, size, **keys):
        self.server = qemu_nbd(self.room, self.image, "qcow2")
        copier = Copier(self.room, None, self.server.uri, size, source_file=None,
                        target_zeroed="yes", plan="allocated", **keys)
        copier.keys.update(disk.keys)
        copier.environment = {**os.environ, **disk.environment}
        return copier

    def is_copy_of(self, disk):
        self.server.stop()
        return world.same_image(disk.truth(), self.image, "qcow2")


def kill_it(copier, when):
    p = copier.start()
    copier.wait_for(p, when)
    p.kill()
    p.communicate()


def opened(event):
    return event["event"] == "open"


def last_sector(size):
    return [(size - SECTOR, SECTOR)]


@pytest.mark.parametrize("kind", ["file", "nbd", "vddk"])
@pytest.mark.parametrize("size", SMALL)
def test_life_of_a_disk_of_odd_size(room, disk_of, kind, size):
    disk, target = disk_of(kind, size), Target(room, size)
    disk.write(0, SECTOR, 1)
    disk.write(size - SECTOR, SECTOR, 2)
    copier = target.copier(disk, size)
    kill_it(copier, opened)
    end = copier.run("done")
    assert end.of("open")[0]["resumed"]
    assert end.end["done"] == end.end["total"]
    assert target.is_copy_of(disk)

    disk.write(size - SECTOR, SECTOR, 3)
    copier = target.copier(disk, size).set(plan="list", plan_id="delta")
    copier.extents = last_sector(size)
    kill_it(copier, opened)
    copier.run("done")
    assert target.is_copy_of(disk)

    disk.write(size - SECTOR, SECTOR, 4)
    copier = target.copier(disk, size).set(plan="compare", plan_id="again")
    end = copier.run("done").end
    assert end["written"] == (size - 1) % BLOCK + 1
    assert end["same"] == size - end["written"]
    assert target.is_copy_of(disk)


@pytest.mark.parametrize("kind", ["file", "nbd", "vddk"])
def test_life_of_a_huge_disk(room, disk_of, kind):
    """Of 2 TiB and a sector, as good as empty: nothing may go by its size."""
    size = HUGE
    disk, target = disk_of(kind, size), Target(room, size)
    for at in (0, MiB, TiB + 5 * BLOCK, size - SECTOR - 2 * MiB):
        disk.write(at, 2 * MiB, at)
    disk.write(size - SECTOR, SECTOR, 2)
    copier = target.copier(disk, size, rate=2 * MiB)
    kill_it(copier, lambda event: event.get("read", 0) >= 2 * MiB)
    copier.set(rate=0)
    end = copier.run("done")
    assert end.of("open")[0]["resumed"]
    assert end.end["total"] < 64 * MiB
    assert os.stat(copier.map).st_blocks * 512 < MiB
    assert target.is_copy_of(disk)

    disk.write(size - SECTOR, SECTOR, 3)
    copier = target.copier(disk, size).set(plan="list", plan_id="delta")
    copier.extents = last_sector(size)
    kill_it(copier, opened)
    end = copier.run("done").end
    assert end["total"] == SECTOR
    assert target.is_copy_of(disk)
