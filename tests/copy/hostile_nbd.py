#!/usr/bin/python3
"""An NBD server that reads as it should and answers as it should not."""
import argparse
import functools
import socket
import struct
import sys
import threading

from volatile_nbd import (DISC, OPT_ABORT, OPT_GO, OPT_INFO, READ, REP_ACK,
                          REP_INFO, REP_UNSUP, Connection)

STRUCTURED_REPLY, SET_META_CONTEXT, REP_META_CONTEXT = 8, 10, 4
BLOCK_STATUS, DONE = 7, 1
NONE, OFFSET_DATA, STATUS = 0, 1, 5
CONTEXT = 7
HOLE_ZERO = 3


class Hostile(Connection):
    def __init__(self, sock, opts):
        self.sock, self.opts = sock, opts
        self.lock = threading.Lock()
        self.size = opts.size

    def negotiate(self):
        self.send(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        self.take(4)
        while True:
            _, option, n = struct.unpack(">QII", self.take(16))
            self.take(n)
            if option == STRUCTURED_REPLY:
                self.option_reply(option, REP_ACK)
            elif option == SET_META_CONTEXT:
                self.option_reply(option, REP_META_CONTEXT, struct.pack(
                    ">I", CONTEXT) + b"base:allocation")
                self.option_reply(option, REP_ACK)
            elif option in (OPT_GO, OPT_INFO):
                self.option_reply(option, REP_INFO, struct.pack(
                    ">HQH", 0, self.size, 1 | 2))
                self.option_reply(option, REP_ACK)
                if option == OPT_GO:
                    return
            elif option == OPT_ABORT:
                raise EOFError
            else:
                self.option_reply(option, REP_UNSUP)

    def chunk(self, cookie, kind, data=b"", flags=DONE):
        self.send(struct.pack(">IHHQI", 0x668E33EF, flags, kind, cookie,
                              len(data)) + data)

    @functools.lru_cache
    def extents(self, n):
        """Lengths and flags of the status of n bytes."""
        return b"".join(struct.pack(">II", *x) for x in {
            "data": [(n, 0)],
            # every other 4 KiB
            "crumbs": [(4096, 0), (4096, HOLE_ZERO)] * (n // 8192),
            # past what was asked for, and the end
            "long": [(4096, 0), (0xFFFFF000, HOLE_ZERO)],
            # a step at a time
            "short": [(1 << 20, 0)],
            "none": [(0, 0), (n, 0)],
        }[self.opts.status])

    def status(self, cookie, _, n):
        self.chunk(cookie, STATUS,
                   struct.pack(">I", CONTEXT) + self.extents(n))

    def read(self, cookie, offset, n):
        """Ones all over; the first half of it, when it is to be short."""
        if self.opts.read == "nothing":
            return self.chunk(cookie, NONE)
        given = n // 2 if self.opts.read == "short" else n
        at = offset - 1024 if self.opts.read == "elsewhere" else offset
        self.chunk(cookie, OFFSET_DATA,
                   struct.pack(">Q", at) + b"\1" * given)

    def serve(self):
        self.negotiate()
        while True:
            _, _, kind, cookie, offset, n = struct.unpack(
                ">IHHQQI", self.take(28))
            if kind == DISC:
                return
            assert kind in (READ, BLOCK_STATUS)
            (self.read if kind == READ else self.status)(cookie, offset, n)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("socket")
    p.add_argument("size", type=int)
    p.add_argument("--read", choices=["well", "short", "elsewhere", "nothing"],
                   default="well")
    p.add_argument("--status", default="data",
                   choices=["data", "crumbs", "long", "short", "none"])
    opts = p.parse_args()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(opts.socket)
        listener.listen()
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=Hostile(sock, opts).run,
                             daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
