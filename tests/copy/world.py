"""What the copier's tests need: a program to run, servers to write to, disks
to copy, and a reader of the block map that is not the copier's own."""
import ctypes
import ctypes.util
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

BLOCK = 65536
MIB = 1 << 20
COPIED, ZERO, DIRTY, VERIFIED = 1, 2, 4, 8
PAGE, PAGE_BLOCKS, PAGES_AT = 4096, 454, 8192
HERE = pathlib.Path(__file__).parent
PATIENCE = 60  # seconds until something that must happen has not


def program():
    return pathlib.Path(os.environ["V2C_BUILD"]) / "src/main/v2c-copy"


def needs(*names):
    """Names of programs which are missing, for pytest.skip."""
    return [n for n in names if not shutil.which(n)]


def xxh3(data, seed=0):
    if not hasattr(xxh3, "f"):
        xxh3.f = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
        xxh3.f.restype = ctypes.c_uint64
        xxh3.f.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    return xxh3.f(data, len(data), seed)


def noise(n, seed):
    return random.Random(seed).randbytes(n)


def make_disk(path, size, seed=1):
    """Data, zeroes and holes in turns, at offsets that fit no block."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(size)
        at = 0
        while at < size:
            n = min(rng.choice([512, 4096, BLOCK, 300000, 1 << 20]), size - at)
            kind = rng.choice(["data", "data", "zeroes", "hole"])
            if kind != "hole":
                f.seek(at)
                f.write(rng.randbytes(n) if kind == "data" else bytes(n))
            at += n
    return path


def blank(path, size):
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def put(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


class SmallDisk:
    """A file system that is soon full; needs root."""

    def __init__(self, directory, size):
        self.path = directory / "small"
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none",
                        self.path], check=True)

    def __enter__(self):
        return self

    def grow(self, size):
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path],
                       check=True)

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=True)


class Server:
    """An NBD server on a unix socket, over as long as the test."""

    def __init__(self, directory, argv, socket_=None):
        self.directory, self.words = directory, argv
        self.socket = socket_ or directory / \
            f"nbd{len(os.listdir(directory))}.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        argv = [a.replace("SOCKET", str(self.socket)) for a in argv]
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while not self.listens():
            assert self.proc.poll() is None, f"{argv[0]} did not start"
            assert time.monotonic() < end, f"{argv[0]} does not listen"
            select.select([], [], [], 0.01)

    def listens(self):
        """The socket's name is there before anybody listens."""
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(str(self.socket)) == 0

    def stop(self, sig=signal.SIGTERM):
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
            self.proc.send_signal(signal.SIGCONT)  # a test may have stopped it
        self.proc.wait(PATIENCE)
        self.socket.unlink(missing_ok=True)

    def again(self):
        """The same one, at the same place."""
        return Server(self.directory, self.words, self.socket)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def qemu_nbd(directory, image, fmt="raw", *more):
    return Server(directory, ["qemu-nbd", "-t", "-f", fmt, "-k", "SOCKET",
                              *more, str(image)])


def nbdkit(directory, *args):
    return Server(directory, ["nbdkit", "-f", "-U", "SOCKET",
                              *[str(a) for a in args]])


def volatile(directory, image, *more):
    return Server(directory, [sys.executable, str(HERE / "volatile_nbd.py"),
                              "SOCKET", str(image), *[str(m) for m in more]])


class Result:
    def __init__(self, code, lines, err):
        self.code, self.err = code, err
        self.events = [json.loads(line) for line in lines]
        self.end = self.events[-1] if self.events else {}

    def of(self, event):
        return [e for e in self.events if e["event"] == event]

    def check(self, result):
        """Line and exit code agree, and are what was expected."""
        assert self.end["event"] == "end", self.err
        assert self.end["result"] == result, (self.end, self.err)
        codes = {"done": [0], "failed": [1, 2], "stopped": [3],
                 "differs": [4]}
        assert self.code in codes[result], self.end
        return self


class Copier:
    """Requests for one disk; `set` changes keys, None leaves one out."""

    verb = "copy"

    def __init__(self, directory, source, target_uri, size, **keys):
        self.map = directory / "disk-2000.map"
        self.size = size
        self.extents = []
        self.environment = None  # ours
        self.keys = {
            "source.kind": "file", "source.file": source,
            "target.uri": target_uri, "target.zeroed": "no",
            "target.id": "target-1", "disk.id": "disk-uuid",
            "disk.size": size, "map": self.map, "plan.id": "base",
            "plan": "all",
        }
        self.set(**keys)

    def set(self, **keys):
        for key, value in keys.items():
            self.keys[key.replace("_", ".")] = value
        return self

    def text(self):
        lines = ["v2c-copy 1"]
        lines += [f"{k} {v}" for k, v in self.keys.items() if v is not None]
        lines += [f"extent {s} {n}" for s, n in self.extents]
        return "\n".join(lines + ["end", ""])

    def start(self, **popen):
        p = subprocess.Popen([program(), self.verb], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, env=self.environment, **popen)
        p.stdin.write(self.text())
        p.stdin.flush()
        return p

    def finish(self, p):
        try:
            out, err = p.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            raise
        return Result(p.returncode, out.splitlines(), err)

    def run(self, result=None):
        r = self.finish(self.start())
        return r.check(result) if result else r

    def killed_after(self, seconds):
        """True if it was killed, False if it had ended before."""
        p = self.start()
        try:
            p.communicate(timeout=seconds)
            return False
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            return True

    def killed_after_reading(self):
        """Some of it is on the target, and the map does not know it."""
        p = self.start()
        event = self.wait_for(p, lambda e: e.get("read", 0) >= 32 * BLOCK)
        p.kill()
        p.communicate()
        return event

    def killed_before_a_checkpoint(self):
        event = self.killed_after_reading()
        assert event["done"] == 0, "killed too late to prove anything"

    def wait_for(self, p, wanted):
        """Reads events up to the first for which wanted(event) is true."""
        for line in p.stdout:
            event = json.loads(line)
            if wanted(event):
                return event
        raise AssertionError("ended before: " + p.stderr.read())


def limit(path, rate):
    """A file of a rate, as its layout says; bytes per second, 0: none."""
    path.write_bytes(struct.pack("=16s6Q", b"v2c rate1", rate, 0, 0, 0, 0, 0))
    return path


def change_limit(path, rate):
    put(path, 16, struct.pack("=Q", rate))


class Verifier(Copier):
    """Reads back what a Copier has copied."""

    verb = "verify"

    def __init__(self, copier, **keys):
        self.map, self.size, self.extents = copier.map, copier.size, []
        self.environment = copier.environment
        self.keys = {k: copier.keys[k] for k in (
            "target.uri", "target.id", "disk.id", "disk.size", "map")}
        self.set(**keys)


def read_map(path):
    """Block number to (hash, flags), as the file's layout says."""
    raw = pathlib.Path(path).read_bytes()
    blocks = {}
    for no, at in enumerate(range(PAGES_AT, len(raw), PAGE)):
        page = raw[at:at + PAGE].ljust(PAGE, b"\0")
        if not any(page):
            continue
        if struct.unpack_from("<Q", page)[0] != xxh3(page[8:], no):
            continue  # torn: it claims nothing
        hashes = struct.unpack_from(f"<{PAGE_BLOCKS}Q", page, 8)
        flags = page[8 + 8 * PAGE_BLOCKS:][:PAGE_BLOCKS]
        for i in range(PAGE_BLOCKS):
            if flags[i]:
                blocks[no * PAGE_BLOCKS + i] = (hashes[i], flags[i])
    return blocks


def holes_are_zero(path):
    """Does the header say that blocks without an entry are zero?"""
    raw = pathlib.Path(path).read_bytes()[:PAGES_AT].ljust(PAGES_AT, b"\0")
    slots = [struct.unpack_from("<QQIIQQQI", raw, at) for at in (0, PAGE)]
    return bool(max(slots, key=lambda s: s[5])[7] & 2)


def check_claims(path, target):
    """Every block the map calls copied is in the target with that hash.
    Returns how many those are."""
    claims = 0
    with open(target, "rb") as f:
        for block, (digest, flags) in read_map(path).items():
            if flags & COPIED and not flags & DIRTY:
                f.seek(block * BLOCK)
                assert xxh3(f.read(BLOCK)) == digest, f"block {block}"
                claims += 1
    return claims


def same(a, b):
    with open(a, "rb") as x, open(b, "rb") as y:
        at = 0
        while True:
            p, q = x.read(BLOCK), y.read(BLOCK)
            if p != q:
                return f"differ in the block at {at}"
            if not p:
                return True
            at += BLOCK


def same_image(raw, image, fmt):
    return subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", fmt,
                           str(raw), str(image)],
                          capture_output=True).returncode == 0
