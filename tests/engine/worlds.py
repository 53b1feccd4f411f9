"""Worlds that the engine's tests migrate out of."""
MIB = 1 << 20


def vm(name="vm1", **keys):
    """Two small disks on two controllers, a guest that keeps writing."""
    return {
        "name": name,
        "nics": [{"network": "VM Network", "mac": "00:50:56:01:02:03"}],
        "disks": [
            {"size": 24 * MIB, "content": "random"},
            {"size": 8 * MIB + 512, "content": "sparse", "controller":
             "lsilogic", "bus": 1, "unit": 0},
        ],
        "guest": {"writes_per_s": 100, "max_bytes": 70000,
                  "shutdown_ms": 200, "zero_share": 20},
        **keys}


def world(*vms, **keys):
    return {"task_ms": 20, "vms": list(vms) or [vm()], **keys}
