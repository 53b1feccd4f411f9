"""What the bench measures with: processes whose CPU time and memory are
counted to the end, a lab, servers, and the pipelines that are compared."""
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
MIB, GIB = 1 << 20, 1 << 30
TICK = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 600
SAMPLE_S = 0.05  # between two looks at a process's memory

# the engine's own way to serve a replica (src/cloud/qemu.c)
QEMU_NBD = ["qemu-nbd", "--persistent", "--shared=8", "--cache=writeback",
            "--discard=unmap", "--format", "qcow2", "--socket", "SOCKET"]
QEMU_NBD_ENV = {"MALLOC_MMAP_THRESHOLD_": "33554432",
                "MALLOC_TRIM_THRESHOLD_": "67108864"}


class Failure(Exception):
    """Something that is measured did not work."""


def busy_s():
    """Seconds that the processors of the machine have worked since boot."""
    with open("/proc/stat", encoding="ascii") as stat:
        words = stat.readline().split()
    times = [int(w) for w in words[1:9]]
    return (sum(times) - times[3] - times[4]) / TICK


class Program:
    """A process of a pipeline.  `cpu_s` and `peak` (bytes) once reaped."""

    def __init__(self, argv, **popen):
        self.name = pathlib.Path(argv[0]).name
        self.argv = [str(a) for a in argv]
        self.peak = 0
        self.cpu_s = None
        self.popen = subprocess.Popen(self.argv, **popen)
        self.pid = self.popen.pid
        self.code = None

    def look(self):
        """VmHWM: ru_maxrss would count what our own process had at the
        fork."""
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
            for line in text.splitlines():
                if line.startswith("VmHWM"):
                    self.peak = max(self.peak, int(line.split()[1]) * 1024)

    def wait(self, options):
        """User and system time of all its threads, once it has ended."""
        pid, status, usage = os.wait4(self.pid, options)
        if pid:
            self.code = os.waitstatus_to_exitcode(status)
            self.popen.returncode = self.code
            self.cpu_s = usage.ru_utime + usage.ru_stime

    def ended(self):
        if self.code is None:
            self.wait(os.WNOHANG)
        return self.code is not None

    def reap(self):
        if self.code is None:
            self.wait(0)
        return self.code

    def stop(self):
        if self.code is None:
            self.look()
            self.popen.terminate()
        return self.reap()


class Watch(threading.Thread):
    """Follows the memory of programs while they run."""

    def __init__(self, programs):
        super().__init__(daemon=True)
        self.programs = programs
        self.over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def run(self):
        while not self.over.wait(SAMPLE_S):
            for program in self.programs:
                program.look()


class Server(Program):
    """Listens on a unix socket; `uri` names it."""

    count = 0

    def __init__(self, folder, argv, **popen):
        Server.count += 1
        self.socket = folder / f"{Server.count}.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.log = folder / f"{Server.count}.log"
        argv = [str(a).replace("SOCKET", str(self.socket)) for a in argv]
        with open(self.log, "wb") as log:
            super().__init__(argv, stdin=subprocess.DEVNULL, stderr=log,
                             **popen)
        try:
            self.await_it()
        except BaseException:
            self.stop()
            raise

    def await_it(self):
        end = time.monotonic() + PATIENCE_S
        while not self.listens():
            if self.ended():
                raise Failure(self.why())
            if time.monotonic() > end:
                raise Failure(f"{self.name} does not listen")
            time.sleep(0.005)

    def why(self):
        return f"{self.name} ended with {self.code}: {self.log.read_text()}"

    def listens(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(str(self.socket)) == 0


class Bench:
    """A folder, a build, and what the cases make of them."""

    def __init__(self, build, folder, size, args):
        self.build = pathlib.Path(build).resolve()
        self.folder = pathlib.Path(folder)
        self.size = size  # bytes of the largest disk
        self.repeat = 1 if args.quick else args.repeat
        self.quick, self.full = args.quick, args.full
        self.numbers = 0
        os.environ["V2C_BUILD"] = str(self.build)
        sys.path.insert(0, str(TOP / "tests" / "lab"))

    def program(self, name):
        return self.build / name

    def path(self, name):
        """A new name in the folder."""
        self.numbers += 1
        return self.folder / f"{self.numbers}-{name}"

    def warm(self, size):
        """Memory that is used for the first time since the machine's start
        may cost more than later; nobody shall pay for that."""
        if not size:
            return
        file = self.path("warm")
        with open(file, "wb") as f:
            os.posix_fallocate(f.fileno(), 0, size)
        file.unlink()

    @contextlib.contextmanager
    def lab(self, disks):
        """A lab with one VM, powered off, that has these disks."""
        import labkit
        lab = labkit.Lab(self.path("lab"), {"vms": [
            {"name": "vm1", "power": "poweredOff", "disks": disks}]})
        try:
            yield Source(lab)
        finally:
            lab.down()
            subprocess.run(["rm", "-rf", lab.dir], check=True)

    # targets ---------------------------------------------------------------

    @contextlib.contextmanager
    def qcow2(self, size, env=QEMU_NBD_ENV):
        """(server, image): served as the engine serves it, or by a qemu-nbd
        with another environment."""
        image = self.path("replica.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o",
                        "compat=1.1", image, str(size)], check=True)
        server = Server(self.folder, [*QEMU_NBD, image],
                        env={**os.environ, **env})
        try:
            yield server, image
        finally:
            server.stop()
            image.unlink()

    @contextlib.contextmanager
    def null(self, size):
        """(server, None): takes what it is given and forgets it."""
        server = Server(self.folder, ["nbdkit", "-f", "-U", "SOCKET", "null",
                                      str(size)])
        try:
            yield server, None
        finally:
            server.stop()

    # sources ---------------------------------------------------------------

    @contextlib.contextmanager
    def vddk_server(self, disk):
        """nbdkit with the library as its source."""
        lab = disk.source.lab
        password = self.path("password")
        password.touch(0o600)
        password.write_text(lab.vcenter["password"])
        server = Server(self.folder, [
            "nbdkit", "-f", "-r", "-U", "SOCKET",
            self.program("tests/bench/nbdkit-labvddk-plugin.so"),
            f"libdir={lab.vddk_path}", f"server={lab.vcenter['host']}",
            f"port={lab.vcenter['port']}", f"user={lab.vcenter['user']}",
            f"password=+{password}", f"thumbprint={lab.vcenter['sha1']}",
            f"vm=moref={disk.source.moref}", f"path={disk.path}"])
        try:
            yield server
        finally:
            server.stop()
            password.unlink()

    @contextlib.contextmanager
    def file_server(self, disk, latency_us, link):
        """nbdkit's own file plugin behind its delay and rate filters."""
        filters, keys = [], []
        if latency_us:
            filters.append("--filter=delay")
            keys.append(f"rdelay={latency_us / 1000:g}ms")
        if link:
            filters.append("--filter=rate")
            keys.append(f"rate={link * 8}")
        server = Server(self.folder, ["nbdkit", "-f", "-r", "-U", "SOCKET",
                                      *filters, "file", disk.file(), *keys])
        try:
            yield server
        finally:
            server.stop()


class Source:
    """A lab and its VM."""

    def __init__(self, lab):
        self.lab = lab
        self.moref = lab.vms["vm1"]["moref"]
        self.disks = [Disk(self, d) for d in lab.state("vm1")["disks"]]

    def network(self, latency_us=0, link_mib=0):
        """Latency of each read; MiB/s of all disks together."""
        self.lab.ctl("latency", us=latency_us)
        self.lab.ctl("link", mbps=link_mib)


class Disk:
    """One of its disks."""

    def __init__(self, source, state):
        self.source = source
        self.key, self.size = state["key"], state["size"]
        self.path, self.uuid = state["path"], state["uuid"]

    def write(self, offset, length, **keys):
        self.source.lab.ctl("write", vm="vm1", disk=self.key, offset=offset,
                            length=length, **keys)

    def file(self):
        """The lab's own file; the disk has no snapshot."""
        name = pathlib.Path(self.path.split("/")[-1]).stem
        found = list(pathlib.Path(self.source.lab.dir).rglob(
            f"{name}-flat.raw"))
        if len(found) != 1:
            raise Failure(f"the lab has {found} for {self.path}")
        return found[0]

    def areas(self):
        """(start, length) of what holds data."""
        found, at = [], 0
        with open(self.file(), "rb") as file:
            while True:
                try:
                    start = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:
                    return found
                at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                found.append((start, at - start))

    def compare(self, image):
        done = subprocess.run(
            ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", self.file(),
             image], capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"the copy differs: {done.stdout}{done.stderr}")


class Ours:
    """v2c-copy of one disk into one target."""

    name = "v2c-copy"

    def __init__(self, bench, disk, target, extents=(), **keys):
        lab = disk.source.lab
        self.map = bench.path("disk.map")
        self.extents = extents
        self.events = []
        self.opened_s = self.ended_s = None
        self.keys = {
            "source.kind": "vddk", "source.libdir": lab.vddk_path,
            "source.server": lab.vcenter["host"],
            "source.port": lab.vcenter["port"],
            "source.user": lab.vcenter["user"],
            "source.password": lab.vcenter["password"],
            "source.thumbprint": lab.vcenter["sha1"],
            "source.vm": disk.source.moref, "source.path": disk.path,
            "target.uri": target.uri, "target.zeroed": "yes",
            "target.id": "t", "disk.id": disk.uuid, "disk.size": disk.size,
            "map": self.map, "plan.id": "base", "plan": "allocated", **keys}
        self.env = dict(os.environ,
                        LD_LIBRARY_PATH=f"{lab.vddk_path}/lib64")
        self.argv = [bench.program("src/main/v2c-copy"), "copy"]
        self.servers = [target]

    def text(self):
        lines = ["v2c-copy 1"]
        lines += [f"{k} {v}" for k, v in self.keys.items()]
        lines += [f"extent {start} {n}" for start, n in self.extents]
        return "\n".join(lines + ["end", ""])

    def start(self):
        self.program = Program(self.argv, env=self.env, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
        self.program.popen.stdin.write(self.text())
        self.program.popen.stdin.close()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        return self.program

    def read(self):
        for line in self.program.popen.stdout:
            event = json.loads(line)
            self.events.append(event)
            if event["event"] == "open":
                self.opened_s = time.monotonic()
            if event["event"] == "end":
                self.ended_s = time.monotonic()
                self.program.look()

    def finish(self):
        said = self.program.popen.stderr.read()
        self.program.reap()
        self.reader.join()
        self.map.unlink(missing_ok=True)
        if self.program.code or self.events[-1]["result"] != "done":
            raise Failure(f"v2c-copy ended with {self.program.code}: {said}")

    def facts(self):
        """Of the data phase: from the event `open` to the event `end`."""
        return {"data_s": self.ended_s - self.opened_s,
                "read": self.events[-1]["read"],
                "warnings": [e["text"] for e in self.events
                             if e["event"] == "warn"]}


class Nbdcopy:
    """nbdcopy of one server into another."""

    name = "nbdcopy"

    def __init__(self, source, target):
        self.argv = ["nbdcopy", "--flush", "--destination-is-zero",
                     source.uri, target.uri]
        self.servers = [source, target]

    def start(self):
        self.program = Program(self.argv)
        return self.program

    def finish(self):
        if self.program.reap():
            raise Failure(f"nbdcopy ended with {self.program.code}")

    def facts(self):
        return {}


class Serial(Nbdcopy):
    """One area after the other."""

    name = "one at a time"

    def __init__(self, bench, source, target, areas):
        self.argv = [bench.program("tests/bench/bench-serial"), source.uri,
                     target.uri]
        self.servers = [source, target]
        self.text = "".join(f"{start} {n}\n" for start, n in areas)

    def start(self):
        self.program = Program(self.argv, text=True, stdin=subprocess.PIPE)
        self.program.popen.stdin.write(self.text)
        self.program.popen.stdin.close()
        return self.program


def measure(copies):
    """Runs these copies at the same time, to the end of their servers too.
    A dict: seconds, CPU seconds and peak bytes by program, and the share of
    the machine that others used meanwhile."""
    servers = list({id(s): s for c in copies for s in c.servers}.values())
    busy, own, begin = busy_s(), time.process_time(), time.monotonic()
    programs = []
    try:
        for copy in copies:
            programs.append(copy.start())
        with Watch(programs + servers):
            for copy in copies:
                copy.finish()
            wall = time.monotonic() - begin
    finally:
        for program in programs:
            program.stop()
    for server in servers:
        server.stop()
        if server.code:
            raise Failure(server.why())
    took = time.monotonic() - begin
    everybody = programs + servers
    cpu = sum(p.cpu_s for p in everybody)
    others = busy_s() - busy - cpu - (time.process_time() - own)
    result = {"wall_s": wall, "cpu_s": cpu, "cpu_of": {}, "peak_of": {},
              "others": max(0.0, others / took / os.cpu_count())}
    for p in everybody:
        result["cpu_of"][p.name] = result["cpu_of"].get(p.name, 0) + p.cpu_s
        result["peak_of"][p.name] = max(result["peak_of"].get(p.name, 0),
                                        p.peak)
    facts = [c.facts() for c in copies]
    if len(facts) == 1:
        result.update(facts[0])
    elif all("read" in f for f in facts):
        result["read"] = sum(f["read"] for f in facts)
        result["data_s"] = (max(c.ended_s for c in copies) -
                            min(c.opened_s for c in copies))
    return result
