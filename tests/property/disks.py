"""Disks as a property case knows them: what a guest wrote, what a target
holds now, and what of that would be left after a power cut."""
import ctypes

BLOCK = 65536
SECTOR = 512
ZEROES = bytes(BLOCK)


def xxh3(data, seed=0):
    if not hasattr(xxh3, "f"):
        xxh3.f = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
        xxh3.f.restype = ctypes.c_uint64
        xxh3.f.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    return xxh3.f(data, len(data), seed)


def pieces(offset, n):
    """(block, offset in it, length, offset in the whole) of a range."""
    at = 0
    while at < n:
        block, start = divmod(offset + at, BLOCK)
        k = min(BLOCK - start, n - at)
        yield block, start, k, at
        at += k


def put(blocks, block, start, data):
    """Into a dict of whole blocks, where one that is not there is zero."""
    if len(data) == BLOCK:
        new = data
    else:
        old = blocks.get(block, ZEROES)
        new = old[:start] + data + old[start + len(data):]
    if new == ZEROES:
        blocks.pop(block, None)
    else:
        blocks[block] = new


def get(blocks, offset, n):
    return b"".join(blocks.get(block, ZEROES)[start:start + k]
                    for block, start, k, _ in pieces(offset, n))


def differences(a, b, size):
    """Blocks in which two disks differ, within size."""
    last, rest = divmod(size, BLOCK)
    bad = []
    for block in sorted(a.keys() | b.keys()):
        n = BLOCK if block < last else rest if block == last else 0
        if a.get(block, ZEROES)[:n] != b.get(block, ZEROES)[:n]:
            bad.append(block)
    return bad


def beyond(blocks, size):
    """Is there something past the end of a disk?"""
    last, rest = divmod(size, BLOCK)
    return any(block > last or data[rest:] != ZEROES[rest:]
               for block, data in blocks.items() if block >= last)


class Noise:
    """Bytes at random that are cheap and differ from call to call."""

    def __init__(self, rng):
        self.rng = rng
        self.pool = rng.randbytes(4 * BLOCK)

    def __call__(self, n):
        parts = []
        while n > 0:
            k = min(n, 2 * BLOCK)
            at = self.rng.randrange(2 * BLOCK)
            head = self.rng.randbytes(min(k, 8))
            parts.append(head + self.pool[at:at + k - len(head)])
            n -= k
        return b"".join(parts)


class Guest:
    """A source disk.  It remembers each write, and its snapshots."""

    def __init__(self, size, rng):
        self.size, self.rng = size, rng
        self.noise = Noise(rng)
        self.blocks = {}
        self.writes = []     # (offset, length), in order
        self.snapshots = []  # (blocks, number of writes, size)

    def write(self, offset, data):
        for block, start, k, at in pieces(offset, len(data)):
            put(self.blocks, block, start, data[at:at + k])
        self.writes.append((offset, len(data)))

    def place(self):
        rng = self.rng
        n = rng.choice([SECTOR, SECTOR, 4096, BLOCK, 3 * BLOCK, 40 * SECTOR,
                        rng.randint(1, 600) * SECTOR])
        n = min(n, self.size)
        unit = rng.choice([SECTOR, SECTOR, 4096, BLOCK])
        last = (self.size - n) // unit * unit
        offset = rng.choice([0, last, self.size - n] +
                            4 * [rng.randint(0, last // unit) * unit])
        return offset, n

    def something(self, offset, n):
        """What it writes there, and the word for it."""
        rng = self.rng
        kind = rng.choice("data data data zeroes zeroes before copy".split())
        if kind == "zeroes":
            return bytes(n), kind
        if kind == "before" and self.snapshots:
            old, _, size = rng.choice(self.snapshots)
            if offset + n <= size:
                return get(old, offset, n), kind
        if kind == "copy":
            other = rng.randint(0, (self.size - n) // SECTOR) * SECTOR
            return get(self.blocks, other, n), kind
        return self.noise(n), "data"

    def works(self, times):
        """Writes here and there; tells what."""
        told = []
        for _ in range(times):
            offset, n = self.place()
            data, kind = self.something(offset, n)
            self.write(offset, data)
            told.append(f"{kind} {offset}+{n}")
        return told

    def undo(self, snapshot):
        """Brings back what was there at a snapshot, or at first: zeroes."""
        old, writes, size = ({}, 0, self.size) if snapshot is None else \
            self.snapshots[snapshot]
        for offset, n in self.writes[writes:]:
            n = min(n, size - offset)
            if n > 0 and self.rng.random() < 0.8:
                self.write(offset, get(old, offset, n))
        return [f"all as in snapshot {snapshot}"]

    def fill(self, share):
        """The first contents: runs of data and of zeroes."""
        rng = self.rng
        at = 0
        while at < self.size:
            n = min(rng.choice([SECTOR, 4096, BLOCK, BLOCK, 4 * BLOCK,
                                300 * SECTOR]), self.size - at)
            if rng.random() < share:
                self.write(at, self.noise(n))
            at += n

    def grow(self, n):
        self.size += n

    def close(self):
        pass

    def snapshot(self):
        """Its number."""
        self.snapshots.append((dict(self.blocks), len(self.writes),
                               self.size))
        return len(self.snapshots) - 1

    def contents(self, snapshot):
        return self.snapshots[snapshot][0]

    def areas(self, since, until):
        """What changed between two snapshots, as a tracker tells it: never
        less than the truth, in units of its own, in no special order."""
        rng = self.rng
        size = self.snapshots[until][2]
        unit = rng.choice([SECTOR, 4096, BLOCK, BLOCK, 4 * BLOCK])
        told = self.writes[self.snapshots[since][1]:self.snapshots[until][1]]
        told = told + [self.place() for _ in range(rng.choice([0, 0, 0, 1, 5]))]
        out = []
        for offset, n in told:
            start = offset // unit * unit
            end = min(-(-(offset + n) // unit) * unit, size)
            if start < end:
                out.append((start, end - start))
        rng.shuffle(out)
        return out


def survivors(rng, stable, pending):
    """What a power cut leaves: of the writes that no flush covered, whole
    ones, sectors, pages, or nothing; over one place the order is kept."""
    left = dict(stable)
    kind = rng.choice(["none", "all", "writes", "sectors", "pages", "first",
                       "last"])
    until = rng.randint(0, len(pending))
    unit = 4096 if kind == "pages" else SECTOR
    for i, (block, start, data) in enumerate(pending):
        if kind == "none" or (kind == "first" and i >= until) or \
                (kind == "last" and i < until) or \
                (kind == "writes" and rng.random() < 0.5):
            continue
        if kind in ("sectors", "pages"):
            if rng.random() < 0.3:
                continue
            a = rng.randint(0, len(data) // unit) * unit
            b = rng.randint(0, len(data) // unit + 1) * unit
            parts = [(a, b)] if a < b else [(0, b), (a, len(data))]
        else:
            parts = [(0, len(data))]
        for a, b in parts:
            if data[a:b]:
                put(left, block, start + a, data[a:b])
    return left


class Target:
    """A disk with a cache: what was written is stable after a flush only."""

    def __init__(self, size, blocks, rng):
        self.size, self.rng = size, rng
        self.live, self.stable = dict(blocks), dict(blocks)
        self.pending = []  # (block, start, data), acknowledged or not
        self.writes = 0    # since it was made
        self.blank = not blocks
        self.flushing = []  # lists that a flush under way covers

    def read(self, offset, n):
        return get(self.live, offset, n)

    def write(self, offset, data):
        self.writes += 1
        for block, start, k, at in pieces(offset, len(data)):
            part = data[at:at + k]
            put(self.live, block, start, part)
            self.pending.append((block, start, part))

    def tear(self, offset, data):
        """A write that fails: some of it is there."""
        parts = [(b, s, data[at:at + k])
                 for b, s, k, at in pieces(offset, len(data))]
        self.live = survivors(self.rng, self.live, parts)
        self.pending += [(b, 0, self.live.get(b, ZEROES))
                         for b, _, _ in parts]

    def begin_flush(self):
        covered, self.pending = self.pending, []
        self.flushing.append(covered)
        return covered

    def end_flush(self, covered, good=True):
        """One that fails loses what it covered, as a kernel does; it still
        can be read."""
        self.flushing = [f for f in self.flushing if f is not covered]
        if good:
            for block, start, data in covered:
                put(self.stable, block, start, data)

    def abandon_flush(self, covered):
        """Nobody waits for it any more: the next one covers it."""
        self.flushing = [f for f in self.flushing if f is not covered]
        self.pending = covered + self.pending

    def waiting(self):
        """In the order of writing."""
        return [w for f in self.flushing for w in f] + self.pending

    def after_cut(self, rng):
        """What a power cut now might leave."""
        return survivors(rng, self.stable, self.waiting())

    def cut(self):
        self.stable = self.after_cut(self.rng)
        self.live = dict(self.stable)
        self.pending, self.flushing = [], []
