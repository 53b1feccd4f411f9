"""The block map, read by its documented layout, with code of its own."""
import struct

from disks import BLOCK, ZEROES, xxh3

COPIED, ZERO, DIRTY = 1, 2, 4
PAGE, PAGE_BLOCKS, PAGES_AT = 4096, 454, 8192
MAGIC = 0x3170616D63327600
HOLES_ZERO = 2


class Wrong(Exception):
    """The property does not hold."""


def zero(data):
    return data == ZEROES[:len(data)]


def text(raw, at, n):
    return raw[at:at + n].split(b"\0")[0].decode()


class Map:
    def __init__(self, raw):
        self.valid, generation = False, -1
        self.blocks, self.torn = {}, []
        for at in (0, PAGE):
            slot = raw[at:at + PAGE]
            if len(slot) < PAGE:
                continue
            sum_, magic, _, _, size, gen, _, flags = struct.unpack_from(
                "<QQIIQQQI", slot)
            if magic != MAGIC or sum_ != xxh3(slot[8:]) or gen <= generation:
                continue
            self.valid, generation, self.size = True, gen, size
            self.holes_zero = bool(flags & HOLES_ZERO)
            self.target, self.plan = text(slot, 312, 1024), text(slot, 1336,
                                                                 256)
        for no, at in enumerate(range(PAGES_AT, len(raw), PAGE)):
            self.page(no, raw[at:at + PAGE].ljust(PAGE, b"\0"))

    def page(self, no, page):
        if zero(page):
            return
        if struct.unpack_from("<Q", page)[0] != xxh3(page[8:], no):
            self.torn.append(no)
            return
        flags = page[8 + 8 * PAGE_BLOCKS:][:PAGE_BLOCKS]
        hashes = struct.unpack_from(f"<{PAGE_BLOCKS}Q", page, 8)
        for i, f in enumerate(flags):
            if f:
                self.blocks[no * PAGE_BLOCKS + i] = (hashes[i], f)

    def check(self, stable):
        """Whatever it calls copied is on stable storage with its hash."""
        size = self.size
        for block, (digest, flags) in self.blocks.items():
            if flags & COPIED and not flags & DIRTY:
                n = min(BLOCK, size - block * BLOCK)
                data = stable.get(block, ZEROES)[:n]
                if xxh3(data) != digest:
                    raise Wrong(f"the map calls block {block} copied, but "
                                "it is not on stable storage with that hash")
                if flags & ZERO and not zero(data):
                    raise Wrong(f"the map calls block {block} zero")
        if not self.holes_zero:
            return
        for block in stable:
            if block not in self.blocks and block * BLOCK < size and \
                    block // PAGE_BLOCKS not in self.torn and \
                    not zero(stable[block][:size - block * BLOCK]):
                raise Wrong(f"the map calls block {block} zero, by its "
                            "header, but it is not")

    def agrees(self, blocks):
        """A plan's name stands for a snapshot: what it does not have to copy
        any more is as there."""
        for block, (digest, flags) in self.blocks.items():
            if flags & COPIED and not flags & DIRTY:
                n = min(BLOCK, self.size - block * BLOCK)
                if xxh3(blocks.get(block, ZEROES)[:n]) != digest:
                    raise Wrong(f"block {block} counts as copied by "
                                f"'{self.plan}' and is not as in its snapshot")

    def prove(self, plan):
        """All of the disk is copied by this plan."""
        if self.plan != plan:
            raise Wrong(f"the map is of the plan '{self.plan}', not '{plan}'")
        if self.torn:
            raise Wrong(f"pages {self.torn} of the map are torn")
        for block in range(-(-self.size // BLOCK)):
            flags = self.blocks.get(block, (0, 0))[1]
            if flags & DIRTY or not (flags & COPIED or
                                     (self.holes_zero and not flags)):
                raise Wrong(f"block {block} is not proven by the map")
