"""An NBD server in a thread, for one connection of a story: it answers out of
order, keeps what it is sent in a cache, and does at the n-th request what the
story says.  Sources are served the same way, with their allocation."""
import errno
import os
import selectors
import signal
import socket
import struct
import threading
import time

from disks import get

HAS_FLAGS, READ_ONLY, CAN_FLUSH, CAN_ZERO, MULTI = 1, 2, 4, 64, 256
READ, WRITE, DISC, FLUSH, ZERO, STATUS = 0, 1, 2, 3, 6, 7
NAMES = {READ: "read", WRITE: "write", FLUSH: "flush", ZERO: "zero",
         STATUS: "status"}
EXPORT_NAME, ABORT, INFO, GO, STRUCTURED, LIST_META, SET_META = \
    1, 2, 6, 7, 8, 9, 10
ACK, REP_INFO, REP_META, UNSUP = 1, 3, 4, 0x80000001
DONE, CHUNK_DATA, CHUNK_STATUS, CHUNK_ERROR = 1, 1, 5, 0x8001


class Rule:
    """At the nth request of a kind ("any": of all), and the following ones:
    act, with its argument."""

    def __init__(self, kind, nth, act, arg=0, times=1):
        self.kind, self.nth, self.act = kind, nth, act
        self.arg, self.times = arg, times

    def __str__(self):
        many = f" to {self.nth + self.times - 1}" if self.times > 1 else ""
        what = errno.errorcode[self.arg] if self.act == "error" else self.act
        return f"{what} at {self.kind} {self.nth}{many}"


class Snapshot:
    """A read-only disk to serve; unit: of what it says of its allocation."""

    def __init__(self, blocks, size, unit):
        self.blocks, self.size, self.unit = blocks, size, unit

    def read(self, offset, n):
        return get(self.blocks, offset, n)

    def extents(self, offset, n):
        """(length, is it a hole) of the whole range; only a whole unit of
        zeroes is one."""
        out = []
        end = min(offset + n, self.size)
        while offset < end:
            k = min(self.unit - offset % self.unit, end - offset)
            first = offset // self.unit * self.unit
            whole = min(self.unit, self.size - first)
            hole = self.read(first, whole) == bytes(whole)
            if out and out[-1][1] == hole:
                out[-1][0] += k
            else:
                out.append([k, hole])
            offset += k
        return out


class Conn:
    def __init__(self, sock):
        self.sock, self.buf, self.alive = sock, bytearray(), True
        self.phase = Server.greeted
        self.structured = self.meta = self.no_zeroes = False

    def take(self, n):
        data = bytes(self.buf[:n])
        del self.buf[:n]
        return data

    def send(self, data):
        if not self.alive:
            return
        try:
            self.sock.sendall(data)
        except OSError:
            self.alive = False

    def option_reply(self, option, kind, data=b""):
        self.send(struct.pack(">QIII", 0x3E889045565A9, option, kind,
                              len(data)) + data)


class Request:
    def __init__(self, conn, kind, cookie, offset, n, data):
        self.conn, self.kind, self.cookie = conn, kind, cookie
        self.offset, self.n, self.data = offset, n, data
        self.covers = None  # of a flush


class Server:
    """Begun and ended with each run of a copier.  process: whom to kill."""

    def __init__(self, path, disk, rng, rules=(), hold=0, pace=0, multi=False,
                 zero=True, minimum=1, maximum=32 << 20, allocation=True):
        self.path, self.disk, self.rng, self.rules = path, disk, rng, rules
        self.hold, self.pace, self.allocation = hold, pace, allocation
        self.minimum, self.maximum = minimum, maximum
        self.writable = hasattr(disk, "write")
        self.flags = HAS_FLAGS | (CAN_FLUSH | (CAN_ZERO if zero else 0)
                                  if self.writable else READ_ONLY)
        self.flags |= MULTI if multi else 0
        self.process = None
        self.conns, self.queue, self.counts = [], [], {}
        self.stalled = self.ending = False
        self.failure = None  # an exception of the thread
        self.struck = []     # rules that did
        self.uri = f"nbd+unix:///?socket={path}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.wake, self.waker = socket.socketpair()
        self.selector.register(self.wake, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def keys(self):
        """Of a request that reads from here."""
        return {"source.kind": "nbd", "source.uri": self.uri}

    def env(self):
        return {}

    # life ------------------------------------------------------------------

    def stop(self):
        """What was received and not done may still be done, or not."""
        self.ending = True
        self.waker.send(b"x")
        self.thread.join()
        if self.failure:
            raise self.failure
        while self.queue:
            r = self.queue.pop(0)
            r.conn.alive = False
            if self.rng.random() < 0.5:
                self.serve(r)
            elif r.covers is not None:
                self.disk.abandon_flush(r.covers)
        self.drop()
        self.selector.close()
        for s in (self.listener, self.wake, self.waker):
            s.close()
        os.unlink(self.path)

    def run(self):
        try:
            while not self.ending:
                self.turn()
        except Exception as e:  # told by stop()
            self.failure = e
            self.drop()

    def turn(self):
        if self.stalled or not self.queue:
            timeout = None
        else:
            timeout = 0 if len(self.queue) > self.hold else 0.0005
        events = self.selector.select(timeout)
        for key, _ in events:
            if key.fileobj is self.listener:
                self.accept()
            elif key.fileobj is not self.wake:
                self.receive(key.data)
        if self.queue and not self.stalled and \
                (not events or len(self.queue) > self.hold):
            i = self.rng.randrange(len(self.queue)) if self.hold else 0
            self.judge(self.queue.pop(i))

    def accept(self):
        sock, _ = self.listener.accept()
        conn = Conn(sock)
        self.conns.append(conn)
        self.selector.register(sock, selectors.EVENT_READ, conn)
        conn.send(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))

    def forget(self, conn):
        if conn in self.conns:
            self.conns.remove(conn)
            self.selector.unregister(conn.sock)
            conn.sock.close()
        conn.alive = False

    def drop(self):
        for conn in list(self.conns):
            self.forget(conn)

    # receiving ---------------------------------------------------------------

    def receive(self, conn):
        try:
            data = conn.sock.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.forget(conn)
            return
        conn.buf += data
        while conn.alive and conn.phase(self, conn):
            pass

    def greeted(self, conn):
        """The client's flags."""
        if len(conn.buf) < 4:
            return False
        conn.no_zeroes = struct.unpack(">I", conn.take(4))[0] & 2
        conn.phase = Server.option
        return True

    def option(self, conn):
        if len(conn.buf) < 16:
            return False
        _, option, n = struct.unpack(">QII", conn.buf[:16])
        if len(conn.buf) < 16 + n:
            return False
        conn.take(16)
        data = conn.take(n)
        if option == EXPORT_NAME:
            conn.send(struct.pack(">QH", self.disk.size, self.flags) +
                      (b"" if conn.no_zeroes else bytes(124)))
            conn.phase = Server.request
        elif option in (GO, INFO):
            self.tell_export(conn, option)
        elif option == STRUCTURED and self.allocation:
            conn.structured = True
            conn.option_reply(option, ACK)
        elif option in (LIST_META, SET_META) and conn.structured:
            if b"base:allocation" in data:
                conn.meta = option == SET_META
                conn.option_reply(option, REP_META,
                                  struct.pack(">I", 1) + b"base:allocation")
            conn.option_reply(option, ACK)
        elif option == ABORT:
            self.forget(conn)
        else:
            conn.option_reply(option, UNSUP)
        return True

    def tell_export(self, conn, option):
        conn.option_reply(option, REP_INFO, struct.pack(
            ">HQH", 0, self.disk.size, self.flags))
        conn.option_reply(option, REP_INFO, struct.pack(
            ">HIII", 3, self.minimum, max(self.minimum, 4096), self.maximum))
        conn.option_reply(option, ACK)
        if option == GO:
            conn.phase = Server.request

    def request(self, conn):
        if len(conn.buf) < 28:
            return False
        magic, _, kind, cookie, offset, n = struct.unpack(">IHHQQI",
                                                          conn.buf[:28])
        assert magic == 0x25609513
        size = n if kind == WRITE else 0
        if len(conn.buf) < 28 + size:
            return False
        conn.take(28)
        r = Request(conn, kind, cookie, offset, n, conn.take(size))
        if kind == DISC:
            self.forget(conn)
            return False
        if kind == FLUSH:
            r.covers = self.disk.begin_flush()
        self.queue.append(r)
        return True

    # serving -----------------------------------------------------------------

    def judge(self, r):
        """Does what the story says; else serves it."""
        name = NAMES[r.kind]
        for count in (name, "any"):
            self.counts[count] = self.counts.get(count, 0) + 1
        if self.pace:
            time.sleep(self.rng.random() * self.pace)
        for rule in self.rules:
            n = self.counts.get(rule.kind, 0)
            if rule.kind in (name, "any") and \
                    rule.nth <= n < rule.nth + rule.times:
                self.struck.append(str(rule))
                getattr(self, "do_" + rule.act.replace("-", "_"))(r, rule.arg)
                return
        self.serve(r)

    def do_kill(self, r, _):
        self.process.kill()
        self.queue.insert(0, r)  # it came, and may be done yet
        self.stalled = True

    def do_kill_after(self, r, _):
        self.serve(r)
        self.process.kill()

    def do_term(self, r, _):
        self.process.send_signal(signal.SIGTERM)
        self.serve(r)

    def do_error(self, r, code):
        if r.kind == FLUSH:
            self.disk.end_flush(r.covers, False)
        elif r.kind in (WRITE, ZERO):
            self.disk.tear(r.offset, r.data or bytes(r.n))
        self.reply(r, code)

    def do_drop(self, r, _):
        """The connections are lost; what came by them may still be done."""
        self.queue.append(r)
        self.drop()

    def do_cut(self, _r, _):
        """The server's power: it comes back with what was stable, and some
        of the rest."""
        self.queue.clear()
        self.drop()
        self.disk.cut()

    def do_gone(self, r, _):
        self.do_cut(r, _)
        self.selector.unregister(self.listener)
        self.listener.close()

    def do_stall(self, r, _):
        self.queue.append(r)
        self.stalled = True

    def do_pause(self, r, ms):
        time.sleep(ms / 1000)
        self.serve(r)

    def serve(self, r):
        code, out = 0, b""
        bad = r.offset % self.minimum or r.n % self.minimum or \
            r.offset + r.n > self.disk.size or r.n > self.maximum
        if r.kind != FLUSH and r.kind != STATUS and bad:
            code = errno.EINVAL
        elif r.kind == READ:
            out = self.disk.read(r.offset, r.n)
        elif r.kind in (WRITE, ZERO):
            self.disk.write(r.offset, r.data or bytes(r.n))
        elif r.kind == FLUSH:
            self.disk.end_flush(r.covers)
        elif r.kind == STATUS and r.conn.meta:
            out = struct.pack(">I", 1) + b"".join(
                struct.pack(">II", n, 3 if hole else 0)
                for n, hole in self.disk.extents(r.offset, r.n))
        else:
            code = errno.EINVAL
        self.reply(r, code, out)

    def reply(self, r, code, out=b""):
        if r.kind not in (READ, STATUS) or not r.conn.structured:
            r.conn.send(struct.pack(">IIQ", 0x67446698, code, r.cookie) + out)
            return
        if code:
            kind, out = CHUNK_ERROR, struct.pack(">IH", code, 0)
        elif r.kind == READ:
            kind, out = CHUNK_DATA, struct.pack(">Q", r.offset) + out
        else:
            kind = CHUNK_STATUS
        r.conn.send(struct.pack(">IHHQI", 0x668E33EF, DONE, kind, r.cookie,
                                len(out)) + out)
