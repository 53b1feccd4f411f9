"""Servers and sources that are not ours: nbdkit with its filters, files, and
the lab's VDDK."""
import json
import os
import socket
import subprocess
import time
import urllib.request

from disks import BLOCK, ZEROES, Guest

PATIENCE = 60  # seconds until something that must happen has not


def split(raw):
    """Into a dict of blocks that are not zero."""
    out = {}
    for at in range(0, len(raw), BLOCK):
        block = raw[at:at + BLOCK].ljust(BLOCK, b"\0")
        if block != ZEROES:
            out[at // BLOCK] = block
    return out


def write_file(path, blocks, size, fill=()):
    """A sparse one; fill: blocks to write though they are zero."""
    with open(path, "wb") as f:
        for block in sorted({*blocks, *fill}):
            f.seek(block * BLOCK)
            f.write(blocks.get(block, ZEROES))
        f.truncate(size)
    return path


def as_file(case, blocks, size, snapshot):
    """The snapshot as a file; the same one for all runs that read it."""
    path = case.path(f"source-{snapshot}")
    if not os.path.exists(path):
        every = range(min(size // BLOCK, 64))
        fill = [b for b in every if case.vary.random() < 0.3]
        write_file(path, blocks, size, fill)
    return path


class FileSource:
    def __init__(self, path):
        self.path = path

    def keys(self):
        return {"source.kind": "file", "source.file": self.path}

    def env(self):
        return {}

    def stop(self):
        pass


# nbdkit ------------------------------------------------------------------------

class Nbdkit:
    def __init__(self, path, argv):
        self.path = path
        self.uri = f"nbd+unix:///?socket={path}"
        self.server = subprocess.Popen(["nbdkit", "-f", "-U", path, *argv],
                                       stdin=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while not self.listens():
            assert self.server.poll() is None, f"nbdkit {argv} did not start"
            assert time.monotonic() < end, f"nbdkit {argv} does not listen"
            time.sleep(0.002)

    def listens(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.path) == 0

    def keys(self):
        return {"source.kind": "nbd", "source.uri": self.uri}

    def env(self):
        return {}

    def stop(self):
        self.server.kill()
        self.server.wait()
        os.unlink(self.path)


class NbdkitTarget(Nbdkit):
    """What it was sent is in the file, as the kernel keeps it."""

    def __init__(self, case, filters, args):
        self.case, self.file = case, case.path("target")
        write_file(self.file, case.target.live, case.target.size)
        super().__init__(case.path("t.sock"),
                         [f"--filter={name}" for name in filters] +
                         ["file", self.file, *args])

    def stop(self):
        super().stop()
        target = self.case.target
        with open(self.file, "rb") as f:
            now = split(f.read())
        target.writes += now != target.live
        target.live, target.stable = now, dict(now)
        os.unlink(self.file)


def errors(rng, calls):
    call = rng.choice(calls)
    code = rng.choice(["EIO", "ENOSPC", "ENOMEM", "ESHUTDOWN"])
    # it waits for room for as long as it takes
    rate = rng.choice([0.05, 0.2, 0.2 if code == "ENOSPC" else 1])
    return [f"error-{call}={code}", f"error-{call}-rate={rate}"]


def nbdkit_target(case, run):
    """It has filters of its own; what the story's rules would do, it cannot
    count."""
    rng = case.rng
    filters = ["blocksize-policy"]
    args = [f"blocksize-minimum={case.minimum}", "blocksize-preferred=4096",
            f"blocksize-maximum={case.maximum}",
            "blocksize-error-policy=error"]
    if run.target_rules:
        run.target_rules = errors(rng, ["pwrite", "zero"])
        filters.append("error")
        args += run.target_rules
    if rng.random() < 0.3:
        filters.append("delay")
        args += ["delay-write=2ms", "delay-zero=1ms"]
    if rng.random() < 0.3:
        filters.append("nozero")
    return NbdkitTarget(case, filters, args)


def nbdkit_source(case, run, file):
    rng = case.rng
    argv = []
    args = list(run.source_rules)
    if args:
        argv.append("--filter=error")
    if rng.random() < 0.3:
        argv.append("--filter=noextents")
    if rng.random() < 0.3:
        argv.append("--filter=delay")
        args.append("delay-read=2ms")
    return Nbdkit(case.path("s.sock"), [*argv, "file", file, *args])


# the lab's VDDK -----------------------------------------------------------------

def faults(case, run):
    """Of the source, as its kind has them."""
    rng = case.rng
    if case.kind == "nbdkit":
        return errors(rng, ["pread"])
    op, codes = rng.choice([("open", [1, 2, 4]), ("read", [2, 14009, 14011]),
                            ("callback", [2, 2, 14011, 14009]),
                            ("slow", [20]), ("hang", [0]), ("crash", [0]),
                            ("query", [1]), ("query-bad", [0])])
    if op == "hang":
        run.keys["timeout"] = 1
    run.may_crash |= op == "crash"
    return [dict(op=op, code=rng.choice(codes), nth=rng.randint(1, 6),
                 count=rng.choice([1, 1, 2, 8]), every=rng.choice([1, 1, 3]))]


class LabGuest(Guest):
    """A disk of a VM of the lab, which does the writing."""

    def __init__(self, size, rng, build, path):
        super().__init__(size, rng)
        self.program, self.path = f"{build}/lab/v2c-lab", path
        self.morefs = []
        with open(path + ".json", "w") as f:
            json.dump({"seed": rng.randrange(1 << 30), "task_ms": 0,
                       "vms": [{"name": "vm1", "disks": [{"size": size}]}]},
                      f)
        subprocess.run([self.program, "up", "--dir", path, "--detach",
                        "--world", path + ".json"], check=True,
                       stdout=subprocess.DEVNULL)
        with open(path + "/lab.json") as f:
            self.lab = json.load(f)
        self.vm = self.lab["vms"][0]

    def close(self):
        subprocess.run([self.program, "down", "--dir", self.path], check=True,
                       stdout=subprocess.DEVNULL)

    def ctl(self, verb, **keys):
        request = urllib.request.Request(
            f"{self.lab['control']}/{verb}", json.dumps(keys).encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def disk(self, verb, **keys):
        return self.ctl(verb, vm="vm1", disk=self.vm["disks"][0]["key"],
                        **keys)

    def works(self, times):
        told = []
        for _ in range(times):
            offset, n = self.place()
            # few seeds: some writes bring back what was there before
            seed = self.rng.randint(0, 3)
            self.disk("write", offset=offset, length=n,
                      **({"seed": seed} if seed else {"zero": True}))
            self.writes.append((offset, n))
            told.append(f"seed {seed} {offset}+{n}")
        return told

    def undo(self, _):
        return []

    def fill(self, share):
        self.works(int(share * 20))

    def snapshot(self):
        number = super().snapshot()
        self.morefs.append(self.ctl("snapshot", vm="vm1",
                                    name=f"s{number}")["moref"])
        truth = self.path + ".truth"
        self.disk("truth", snapshot=self.morefs[number], file=truth)
        with open(truth, "rb") as f:
            blocks = split(f.read())
        self.snapshots[number] = (blocks, *self.snapshots[number][1:])
        return number


class LabSource:
    def __init__(self, case, run, snapshot):
        self.guest, self.snapshot = case.guest, snapshot
        for rule in run.source_rules:
            self.guest.ctl("vddk", **rule)

    def stop(self):
        self.guest.ctl("vddk", clear=True)

    def env(self):
        return {"LD_LIBRARY_PATH": self.guest.lab["vddk_path"] + "/lib64"}

    def keys(self):
        lab, moref = self.guest.lab, self.guest.morefs[self.snapshot]
        world = self.guest.ctl("world")["vms"][0]
        version = next(s for s in world["snapshots"]
                       if s["moref"] == moref)["disks"][0]["version"]
        path = next(v for v in world["disks"][0]["versions"]
                    if v["version"] == version)["path"]
        vc = lab["vcenter"]
        return {"source.kind": "vddk", "source.libdir": lab["vddk_path"],
                "source.server": vc["host"], "source.port": vc["port"],
                "source.user": vc["user"], "source.password": vc["password"],
                "source.thumbprint": vc["sha1"],
                "source.vm": self.guest.vm["moref"],
                "source.snapshot": moref, "source.path": path}
