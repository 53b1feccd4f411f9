"""pyvmomi, which we did not write, against the lab's vCenter."""
import ssl

import pytest

from labkit import lab, small_world, start_lab  # noqa: F401 (fixtures)

pyVmomi = pytest.importorskip("pyVmomi")
connect = pytest.importorskip("pyVim.connect")
from pyVmomi import vim, vmodl  # noqa: E402


def login(lab, **keys):
    context = ssl.create_default_context(cafile=lab.vcenter["ca_file"])
    args = {"host": lab.vcenter["host"], "port": lab.vcenter["port"],
            "user": lab.vcenter["user"], "pwd": lab.vcenter["password"],
            "sslContext": context}
    args.update(keys)
    return connect.SmartConnect(**args)


@pytest.fixture
def si(lab):  # noqa: F811
    it = login(lab)
    yield it
    connect.Disconnect(it)
    assert lab.ctl("world")["sessions"] == 0


def wait(si, task):
    """Waits by a filter of its own; the result, or raises the fault."""
    pc = si.content.propertyCollector.CreatePropertyCollector()
    spec = vmodl.query.PropertyCollector.FilterSpec(
        propSet=[vmodl.query.PropertyCollector.PropertySpec(
            type=vim.Task, pathSet=["info.state"])],
        objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=task)])
    pc.CreateFilter(spec, True)
    version, state = "", None
    while state not in ("success", "error"):
        updates = pc.WaitForUpdatesEx(
            version, vmodl.query.PropertyCollector.WaitOptions(
                maxWaitSeconds=30))
        assert updates is not None
        version = updates.version
        for filter_set in updates.filterSet:
            for obj in filter_set.objectSet:
                for change in obj.changeSet:
                    state = change.val
    pc.DestroyPropertyCollector()
    if state == "error":
        raise task.info.error
    return task.info.result


def all_of(si, *types):
    view = si.content.viewManager.CreateContainerView(
        si.content.rootFolder, list(types), True)
    found = list(view.view)
    view.DestroyView()
    return found


def vm_of(si, name):
    return next(vm for vm in all_of(si, vim.VirtualMachine)
                if vm.name == name)


def disks_of(config):
    return {d.key: d for d in config.hardware.device
            if isinstance(d, vim.vm.device.VirtualDisk)}


def changed(vm, snap, key, size, change_id):
    """All areas, by the loop that a client must do."""
    areas, off = [], 0
    while off < size:
        info = vm.QueryChangedDiskAreas(snap, key, off, change_id)
        assert info.startOffset == off and info.length > 0
        areas += [(a.start, a.length) for a in info.changedArea]
        off += info.length
    assert off == size
    return areas


def test_wrong_password(lab):  # noqa: F811
    with pytest.raises(vim.fault.InvalidLogin):
        login(lab, pwd="wrong")


def test_inventory(lab, si):  # noqa: F811
    assert si.content.about.apiType == "VirtualCenter"
    kinds = {type(e).__name__ for e in all_of(si, vim.ManagedEntity)}
    assert {"vim.Folder", "vim.Datacenter", "vim.ClusterComputeResource",
            "vim.HostSystem", "vim.ResourcePool", "vim.Datastore",
            "vim.Network", "vim.dvs.DistributedVirtualPortgroup",
            "vim.VirtualMachine"} <= kinds
    vms = {vm.name: vm for vm in all_of(si, vim.VirtualMachine)}
    assert set(vms) == set(lab.vms)
    for name, vm in vms.items():
        told = lab.vms[name]
        assert vm._moId == told["moref"]
        assert vm.config.uuid == told["uuid"]
        disks = disks_of(vm.config)
        assert {d["key"]: d["size"] for d in told["disks"]} == {
            key: d.capacityInBytes for key, d in disks.items()}
        assert {d["key"]: d["file"] for d in told["disks"]} == {
            key: d.backing.fileName for key, d in disks.items()}
        found = si.content.searchIndex.FindByInventoryPath(told["path"])
        assert found == vm
        assert si.content.searchIndex.FindByUuid(
            None, told["instance_uuid"], True, True) == vm


def test_every_property(si):
    """Each property that is set can be read, typed, by a strict reader."""
    for obj in all_of(si, vim.ManagedEntity):
        spec = vmodl.query.PropertyCollector.FilterSpec(
            propSet=[vmodl.query.PropertyCollector.PropertySpec(
                type=type(obj), all=True)],
            objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=obj)])
        answer = si.content.propertyCollector.RetrieveContents([spec])
        assert len(answer) == 1 and answer[0].obj == obj
        names = {p.name for p in answer[0].propSet}
        assert "name" in names and not answer[0].missingSet


def test_pages(si):
    view = si.content.viewManager.CreateContainerView(
        si.content.rootFolder, [vim.ManagedEntity], True)
    pc = si.content.propertyCollector
    query = vmodl.query.PropertyCollector
    spec = query.FilterSpec(
        propSet=[query.PropertySpec(type=vim.ManagedEntity,
                                    pathSet=["name"])],
        objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[
            query.TraversalSpec(name="v", type=vim.view.ContainerView,
                                path="view", skip=False)])])
    result = pc.RetrievePropertiesEx([spec], query.RetrieveOptions(
        maxObjects=3))
    names = []
    while True:
        assert 1 <= len(result.objects) <= 3
        names += [o.propSet[0].val for o in result.objects]
        if not result.token:
            break
        result = pc.ContinueRetrievePropertiesEx(result.token)
    assert sorted(names) == sorted(
        e.name for e in all_of(si, vim.ManagedEntity))


def test_bad_property(si):
    query = vmodl.query.PropertyCollector
    spec = query.FilterSpec(
        propSet=[query.PropertySpec(type=vim.VirtualMachine,
                                    pathSet=["config.nonsense"])],
        objectSet=[query.ObjectSpec(obj=si.content.rootFolder)])
    with pytest.raises(vmodl.query.InvalidProperty) as caught:
        si.content.propertyCollector.RetrieveContents([spec])
    assert caught.value.name == "config.nonsense"


def test_changed_blocks(lab, si, tmp_path):  # noqa: F811
    """The whole life of a warm migration, without its data path."""
    name, vm = "web01", vm_of(si, "web01")
    size = disks_of(vm.config)[2001].capacityInBytes
    assert not vm.config.changeTrackingEnabled
    assert wait(si, vm.ReconfigVM_Task(vim.vm.ConfigSpec(
        changeTrackingEnabled=True))) is None
    assert vm.config.changeTrackingEnabled
    extra = {o.key: o.value for o in vm.config.extraConfig}
    assert extra["ctkEnabled"] == extra["scsi0:1.ctkEnabled"] == "TRUE"

    # pending until a stun: the first snapshot has no changeId
    first = wait(si, vm.CreateSnapshot_Task("stun", "", False, False))
    assert not disks_of(first.config)[2001].backing.changeId
    with pytest.raises(vim.fault.FileFault) as caught:
        vm.QueryChangedDiskAreas(first, 2001, 0, "*")
    assert caught.value.faultMessage[0].key.endswith("noTrack")
    wait(si, first.RemoveSnapshot_Task(False, True))
    assert vm.snapshot is None

    base = wait(si, vm.CreateSnapshot_Task("base", "d", False, False))
    assert vm.snapshot.rootSnapshotList[0].name == "base"
    disk = disks_of(base.config)[2001]
    old = disk.backing.changeId
    assert old and disk.backing.fileName.endswith("web01_1.vmdk")
    live = disks_of(vm.config)[2001].backing
    assert live.fileName.endswith("web01_1-000002.vmdk")
    assert live.parent.fileName == disk.backing.fileName
    before = lab.truth(name, 2001, tmp_path / "before", base._moId)

    lab.ctl("write", vm=name, disk=2001, offset=size - 512, length=512)
    lab.ctl("write", vm=name, disk=2001, offset=65536 - 512, length=1024)
    wait(si, base.RemoveSnapshot_Task(False, True))
    delta = wait(si, vm.CreateSnapshot_Task("delta", "", False, False))
    after = lab.truth(name, 2001, tmp_path / "after", delta._moId)
    areas = changed(vm, delta, 2001, size, old)
    now = bytearray(before)
    for start, length in areas:
        now[start:start + length] = after[start:start + length]
    assert now == after
    assert before != after
    with pytest.raises(vmodl.fault.InvalidArgument) as caught:
        vm.QueryChangedDiskAreas(delta, 2001, size, old)
    assert caught.value.invalidProperty == "startOffset"
    with pytest.raises(vim.fault.FileFault):
        vm.QueryChangedDiskAreas(None, 2001, 0, old)

    lab.ctl("reset-cbt", vm=name)
    wait(si, delta.RemoveSnapshot_Task(False, True))
    fresh = wait(si, vm.CreateSnapshot_Task("fresh", "", False, False))
    with pytest.raises(vim.fault.FileFault) as caught:
        vm.QueryChangedDiskAreas(fresh, 2001, 0, old)
    assert caught.value.faultMessage[0].key.endswith("cannotGetChanges")
    wait(si, vm.RemoveAllSnapshots_Task(True))
    assert lab.state(name)["snapshots"] == []
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        fresh.config.name


def test_power(lab, si):  # noqa: F811
    vm = vm_of(si, "files01")
    vm.ShutdownGuest()
    while vm.runtime.powerState != "poweredOff":
        pass
    quiet = lab.state("files01")["guest"]
    assert not quiet["running"]
    with pytest.raises(vim.fault.InvalidPowerState):
        wait(si, vm.PowerOffVM_Task())
    wait(si, vm.PowerOnVM_Task())
    assert lab.state("files01")["guest"]["running"]
    wait(si, vm.PowerOffVM_Task())
    assert vm.runtime.powerState == "poweredOff"
    assert vm.guest.toolsRunningStatus == "guestToolsNotRunning"
    with pytest.raises(vim.fault.InvalidPowerState):
        vm.ShutdownGuest()


def test_one_task_at_a_time(lab, si):  # noqa: F811
    lab.ctl("set", task_ms=2000)
    vm = vm_of(si, "db01")
    task = vm.CreateSnapshot_Task("one", "", False, False)
    with pytest.raises(vim.fault.TaskInProgress) as caught:
        vm.CreateSnapshot_Task("two", "", False, False)
    assert caught.value.task == task
    wait(si, task)


def test_session_dropped(lab):  # noqa: F811
    si = login(lab)
    lab.ctl("session", drop=True)
    with pytest.raises(vim.fault.NotAuthenticated):
        si.CurrentTime()


def test_injected_faults(lab, si):  # noqa: F811
    vm = vm_of(si, "db01")
    lab.ctl("fault", method="CreateSnapshot_Task", object="db01", nth=2,
            fault="NoPermission", fields={"privilegeId": "VM.Snap"})
    lab.ctl("fault", method="RemoveSnapshot_Task", fault="FileLocked",
            in_task=True, fields={"file": "x.vmdk"})
    snap = wait(si, vm.CreateSnapshot_Task("one", "", False, False))
    with pytest.raises(vim.fault.NoPermission) as caught:
        vm.CreateSnapshot_Task("two", "", False, False)
    assert caught.value.privilegeId == "VM.Snap"
    with pytest.raises(vim.fault.FileLocked):
        wait(si, snap.RemoveSnapshot_Task(False, True))
    wait(si, snap.RemoveSnapshot_Task(False, True))


def test_esxi(start_lab):  # noqa: F811
    lab = start_lab(dict(small_world(), flavour="esxi"))
    si = login(lab)
    assert si.content.about.apiType == "HostAgent"
    assert si.content.rootFolder._moId == "ha-folder-root"
    vm = vm_of(si, "vm1")
    assert vm._moId.isdigit()
    snap = wait(si, vm.CreateSnapshot_Task("s", "", False, False))
    assert snap._moId == f"{vm._moId}-snapshot-1"
    connect.Disconnect(si)


def test_odd_world(start_lab):  # noqa: F811
    """Names with a slash, independent disks, consolidation that lasts."""
    world = small_world(
        name="a/b", folder="x/y", encrypted=True,
        disks=[{"size": 1 << 20}, {"size": 512, "mode":
                                   "independent_persistent"}])
    world["consolidate_ms"] = 300
    lab = start_lab(world)
    si = login(lab)
    vm = si.content.searchIndex.FindByInventoryPath("DC0/vm/x/y/a%2fb")
    assert vm.name == "a%2fb" and vm.config.keyId is not None
    assert [vm.parent.name, vm.parent.parent.name] == ["y", "x"]
    snap = wait(si, vm.CreateSnapshot_Task("s", "", False, False))
    disks = disks_of(vm.config)
    assert disks[2000].backing.parent is not None
    assert disks[2001].backing.parent is None
    wait(si, snap.RemoveSnapshot_Task(False, True))
    assert vm.runtime.consolidationNeeded
    while vm.runtime.consolidationNeeded:
        pass
    connect.Disconnect(si)
