"""What a power cut leaves of the files that a copier wrote: the journal of
powercut.so, read, and played as far as a file system would have been."""
import os
import struct

CREATE, WRITE, TRUNC, RENAME, UNLINK, SYNC, SYNC_FAILED, SYNC_DIR, DROP = \
    range(1, 10)
RECORD = struct.Struct("<IIQQ")


class File:
    def __init__(self, stable=b""):
        self.stable = bytes(stable)
        self.pending = []  # (offset, data), or (size, None): cut to that
        self.lost = False  # the cache shows more than this

    def contents(self, rng=None):
        """As read now, or as a power cut might leave it."""
        kind = rng.choice(["none", "all", "writes", "sectors", "pages",
                           "first", "last"]) if rng else "all"
        until = rng.randint(0, len(self.pending)) if rng else 0
        out = bytearray(self.stable)
        for i, (at, data) in enumerate(self.pending):
            if kind == "none" or (kind == "first" and i >= until) or \
                    (kind == "last" and i < until) or \
                    (kind == "writes" and rng.random() < 0.5):
                continue
            if data is None:
                if kind == "all" or rng.random() < 0.5:
                    del out[at:]
                    out += bytes(at - len(out))
                continue
            unit = {"sectors": 512, "pages": 4096}.get(kind, len(data) or 1)
            for start in range(0, len(data), unit):
                if unit < len(data) and rng.random() < 0.5:
                    continue
                part = data[start:start + unit]
                out += bytes(max(0, at + start - len(out)))
                out[at + start:at + start + len(part)] = part
        return bytes(out)


class Directory:
    """One that a copier keeps its files in."""

    def __init__(self, path, rng):
        self.path, self.rng = path, rng
        self.journal = path + ".journal"
        self.files = {}    # by inode
        self.names = {}    # stable ones: name to inode
        self.changes = []  # of names, not stable

    def listing(self, until=None):
        """Names, with the first so many of the changes that wait."""
        names = dict(self.names)
        for kind, name, other in self.changes[:until]:
            if kind == CREATE:
                names[name] = other
            elif kind == UNLINK:
                names.pop(name, None)
            elif name in names:
                names[other] = names.pop(name)
        return names

    def take(self):
        """Reads the journal of a copier that has ended."""
        if not os.path.exists(self.journal):
            return
        with open(self.journal, "rb") as f:
            raw = f.read()
        os.unlink(self.journal)
        at = 0
        while at < len(raw):
            kind, n, inode, where = RECORD.unpack_from(raw, at)
            at += RECORD.size
            self.step(kind, inode, where, raw[at:at + n])
            at += n

    def step(self, kind, inode, where, data):
        file = self.files.setdefault(inode, File())
        if kind == CREATE:
            self.files[inode] = File()
            self.changes.append((CREATE, data.decode(), inode))
        elif kind == WRITE:
            file.pending.append((where, data))
        elif kind == TRUNC:
            file.pending.append((where, None))
        elif kind == RENAME:
            self.changes.append((RENAME, *data.decode().split("/")))
        elif kind == UNLINK:
            self.changes.append((UNLINK, data.decode(), None))
        elif kind == SYNC:
            file.stable, file.pending = file.contents(), []
        elif kind == SYNC_FAILED and self.rng.random() < 0.6:
            # some file systems forget it, and go on showing it
            file.lost, file.pending = True, []
        elif kind == DROP:
            file.lost = False
        elif kind == SYNC_DIR:
            self.names, self.changes = self.listing(), []

    def env(self):
        """Of a copier, for powercut.so."""
        env = {"POWERCUT_DIR": self.path, "POWERCUT_JOURNAL": self.journal}
        for inode, file in self.files.items():
            if file.lost:
                env["POWERCUT_INODE"] = str(inode)
                env["POWERCUT_LOST"] = self.path + ".lost"
                with open(self.path + ".lost", "wb") as f:
                    f.write(file.contents())
        return env

    def waiting(self):
        """Is there anything that a power cut might take?"""
        return self.changes or any(f.pending for f in self.files.values())

    def after_cut(self, rng):
        """Name to contents, as a power cut now might leave them."""
        names = self.listing(rng.randint(0, len(self.changes)))
        return {name: self.files[inode].contents(rng)
                for name, inode in names.items()}

    def cut(self, rng):
        self.become(self.after_cut(rng))

    def become(self, contents):
        """These are its files now, and stable."""
        for name in os.listdir(self.path):
            os.unlink(os.path.join(self.path, name))
        self.files, self.names, self.changes = {}, {}, []
        for name, data in contents.items():
            path = os.path.join(self.path, name)
            with open(path, "wb") as f:
                for at in range(0, len(data), 4096):  # holes stay holes
                    page = data[at:at + 4096]
                    if page.strip(b"\0"):
                        f.seek(at)
                        f.write(page)
                f.truncate(len(data))
            inode = os.stat(path).st_ino
            self.names[name], self.files[inode] = inode, File(data)

    def remove(self, name):
        os.unlink(os.path.join(self.path, name))
        self.names, self.changes = self.listing(), []
        self.names.pop(name)

    def read(self, name):
        """As a program reads it now; None: not there."""
        path = os.path.join(self.path, name)
        if not os.path.exists(path):
            return None
        with open(path, "rb") as f:
            return f.read()
