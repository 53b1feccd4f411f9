"""The lab's VDDK by ctypes, in a process of its own (the library wants that).

As a program:  vddkkit.py REQUEST  reads one disk and prints JSON:
{"code": error of the first call that failed or 0, "step": its name,
 "capacity": sectors}; the bytes go to REQUEST's "out".
"""
import ctypes
import json
import os
import re
import subprocess
import sys

import pytest

OK = 0
CHUNK = 2048  # sectors of one read


class Params(ctypes.Structure):
    _fields_ = [("vmxSpec", ctypes.c_char_p), ("server", ctypes.c_char_p),
                ("thumbPrint", ctypes.c_char_p), ("private", ctypes.c_long),
                ("credType", ctypes.c_int), ("a", ctypes.c_char_p),
                ("b", ctypes.c_char_p), ("c", ctypes.c_char_p),
                ("port", ctypes.c_uint32), ("nfcPort", ctypes.c_uint32)]


class Info(ctypes.Structure):
    _fields_ = [("geometry", ctypes.c_uint32 * 6),
                ("capacity", ctypes.c_uint64)]


class Failed(Exception):
    pass


def check(step, code):
    if code & 0xffffffff:
        raise Failed(step, code & 0xffff)


def read_disk(lib, handle, out):
    info = ctypes.POINTER(Info)()
    check("GetInfo", lib.VixDiskLib_GetInfo(handle, ctypes.byref(info)))
    capacity = info.contents.capacity
    buf = ctypes.create_string_buffer(CHUNK * 512)
    with open(out, "wb") as file:
        at = 0
        while at < capacity:
            n = min(CHUNK, capacity - at)
            check("Read", lib.VixDiskLib_Read(
                handle, ctypes.c_uint64(at), ctypes.c_uint64(n), buf))
            file.write(buf.raw[:n * 512])
            at += n
            if os.environ.pop("HOLD", None):
                print("open", flush=True)
                sys.stdin.readline()
    lib.VixDiskLib_FreeInfo(info)
    return capacity


def run(request):
    lib = ctypes.CDLL(request["libdir"] + "/lib64/libvixDiskLib.so.8")
    lib.VixDiskLib_AllocateConnectParams.restype = ctypes.POINTER(Params)
    check("InitEx", lib.VixDiskLib_InitEx(
        6, 5, None, None, None, request["libdir"].encode(), None))
    p = lib.VixDiskLib_AllocateConnectParams()
    c = p.contents
    c.vmxSpec = request["spec"].encode()
    c.server = b"127.0.0.1"
    c.thumbPrint = request["thumbprint"].encode()
    c.credType = 1
    c.a = request["user"].encode()
    c.b = request["password"].encode()
    c.port = request["port"]
    conn, handle = ctypes.c_void_p(), ctypes.c_void_p()
    snapshot = request.get("snapshot")
    check("ConnectEx", lib.VixDiskLib_ConnectEx(
        p, ctypes.c_char(1), snapshot.encode() if snapshot else None,
        b"nbdssl:nbd", ctypes.byref(conn)))
    answer = {"code": OK, "step": ""}
    try:
        check("Open", lib.VixDiskLib_Open(
            conn, request["path"].encode(), 4, ctypes.byref(handle)))
        answer["capacity"] = read_disk(lib, handle, request["out"])
        check("Close", lib.VixDiskLib_Close(handle))
    except Failed as failed:
        answer = {"code": failed.args[1], "step": failed.args[0]}
    lib.VixDiskLib_Disconnect(conn)
    lib.VixDiskLib_FreeConnectParams(p)
    lib.VixDiskLib_Exit()
    return answer


def request_for(lab, vm, path, out, **keys):
    """What `run` needs; keys replace parts of it."""
    request = {"libdir": lab.vddk_path, "spec": "moref=" + lab.vms[vm]["moref"],
               "thumbprint": lab.vcenter["sha1"],
               "user": lab.vcenter["user"],
               "password": lab.vcenter["password"],
               "port": lab.vcenter["port"], "path": path, "out": str(out)}
    request.update(keys)
    return request


def start(request, hold=False):
    """A process that reads the disk; with hold it first says "open" and waits
    for a line on its stdin."""
    library = request["libdir"] + "/lib64/libvixDiskLib.so.8"
    with open(library, "rb") as file:
        if re.search(rb"lib[at]san\.so", file.read()):
            pytest.skip("a library with a sanitizer needs a program with it")
    env = dict(os.environ, **({"HOLD": "1"} if hold else {}))
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(request)], text=True, env=env,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def finish(process, line=None):
    out, _ = process.communicate(line)
    return json.loads(out.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
