#!/usr/bin/python3
"""An NBD server with a volatile cache: what was written is in memory until a
FLUSH, and lost when the server is killed.  Writes are slow and overtake each
other; a FLUSH covers what was acknowledged before it, and nothing else."""
import argparse
import errno
import os
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

FLAGS = 1 | 4 | 64  # has flags, can flush, can write zeroes
MULTI_CONN = 256
OPT_EXPORT_NAME, OPT_ABORT, OPT_INFO, OPT_GO = 1, 2, 6, 7
REP_ACK, REP_INFO, REP_UNSUP = 1, 3, 0x80000001
READ, WRITE, DISC, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6
EINVAL = errno.EINVAL


class Disk:
    def __init__(self, opts):
        self.opts = opts
        self.fd = os.open(opts.file, os.O_RDWR)
        self.size = os.fstat(self.fd).st_size
        self.data = bytearray(os.pread(self.fd, self.size, 0))
        self.unflushed = []
        self.lock = threading.Lock()
        self.random = random.Random(opts.seed)
        self.writes = self.flushes = 0
        # One at a time: each ends after those before it, of all connections.
        self.flusher = ThreadPoolExecutor(1)

    def write(self, offset, data):
        with self.lock:
            pause = self.random.uniform(0, self.opts.delay)
        time.sleep(pause)
        with self.lock:
            self.writes += 1
            if self.opts.drop_after and self.writes > self.opts.drop_after:
                os._exit(0)
            self.data[offset:offset + len(data)] = data
            self.unflushed.append((offset, data))
        return 0

    def begin_flush(self):
        """What this flush has to cover; None if it is to fail."""
        with self.lock:
            self.flushes += 1
            todo, self.unflushed = self.unflushed, []
            # As a kernel does after a failed sync: what it covered is lost.
            return None if self.flushes <= self.opts.fail_flushes else todo

    def end_flush(self, todo):
        if todo is None:
            return getattr(errno, self.opts.flush_error)
        time.sleep(self.opts.slow_flush)
        for offset, data in todo:
            os.pwrite(self.fd, data, offset)
        os.fsync(self.fd)
        return 0


class Connection:
    def __init__(self, sock, disk):
        self.sock, self.disk = sock, disk
        self.lock = threading.Lock()
        self.flags = FLAGS | (MULTI_CONN if disk.opts.multi_conn else 0)

    def take(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def send(self, data):
        with self.lock:
            self.sock.sendall(data)

    def option_reply(self, option, kind, data=b""):
        self.send(struct.pack(">QIII", 0x3E889045565A9, option, kind,
                              len(data)) + data)

    def negotiate(self):
        self.send(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        no_zeroes = struct.unpack(">I", self.take(4))[0] & 2
        while True:
            _, option, n = struct.unpack(">QII", self.take(16))
            self.take(n)
            if option == OPT_EXPORT_NAME:
                self.send(struct.pack(">QH", self.disk.size, self.flags) +
                          (b"" if no_zeroes else bytes(124)))
                return
            if option in (OPT_GO, OPT_INFO):
                self.option_reply(option, REP_INFO, struct.pack(
                    ">HQH", 0, self.disk.size, self.flags))
                self.option_reply(option, REP_ACK)
                if option == OPT_GO:
                    return
            elif option == OPT_ABORT:
                raise EOFError
            else:
                self.option_reply(option, REP_UNSUP)

    def reply(self, cookie, error, data=b""):
        self.send(struct.pack(">IIQ", 0x67446698, error, cookie) + data)

    def answer(self, cookie, work, *args):
        try:
            self.reply(cookie, work(*args))
        except OSError:
            pass  # the client has gone

    def serve(self):
        self.negotiate()
        with ThreadPoolExecutor(8) as pool:
            while True:
                _, _, kind, cookie, offset, n = struct.unpack(
                    ">IHHQQI", self.take(28))
                if kind == DISC:
                    return
                if kind in (WRITE, ZEROES, TRIM):
                    data = self.take(n) if kind == WRITE else bytes(n)
                    if offset + n > self.disk.size:
                        self.reply(cookie, EINVAL)
                    else:
                        pool.submit(self.answer, cookie, self.disk.write,
                                    offset, data)
                elif kind == FLUSH:
                    self.disk.flusher.submit(
                        self.answer, cookie, self.disk.end_flush,
                        self.disk.begin_flush())
                elif kind == READ:
                    with self.disk.lock:
                        data = bytes(self.disk.data[offset:offset + n])
                    self.reply(cookie, 0, data)
                else:
                    self.reply(cookie, EINVAL)

    def run(self):
        try:
            self.serve()
        except (EOFError, OSError):
            pass
        self.sock.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("socket")
    p.add_argument("file")
    p.add_argument("--multi-conn", action="store_true")
    p.add_argument("--delay", type=float, default=0.0, help="seconds, most")
    p.add_argument("--slow-flush", type=float, default=0.0, help="seconds")
    p.add_argument("--drop-after", type=int, default=0, help="writes")
    p.add_argument("--fail-flushes", type=int, default=0, help="the first N")
    p.add_argument("--flush-error", default="EIO")
    p.add_argument("--seed", type=int, default=1)
    opts = p.parse_args()
    disk = Disk(opts)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(opts.socket)
        listener.listen()
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=Connection(sock, disk).run,
                             daemon=True).start()


if __name__ == "__main__":
    main()
