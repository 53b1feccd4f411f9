"""The lab's vCenter refuses what the real one refuses."""
import re

import pytest

from labkit import Refused, small_world, start_lab  # noqa: F401
from soapkit import ENVELOPE, Fault, Soap, enable_cbt

PC = "PropertyCollector:propertyCollector"
SM = "SessionManager:SessionManager"
SI = "ServiceInstance:ServiceInstance"


@pytest.fixture
def lab(start_lab):  # noqa: F811
    return start_lab(small_world(guest={"writes_per_s": 0}))


@pytest.fixture
def soap(lab):
    it = Soap(lab)
    it.login()
    return it


@pytest.fixture
def vm(lab):
    return "VirtualMachine:" + lab.vms["vm1"]["moref"]


def refused(soap, kind, *args, **keys):
    with pytest.raises(Fault) as caught:
        soap.call(*args, **keys)
    assert caught.value.type == kind, caught.value.text
    return caught.value.text


def test_needs_login(lab):
    soap = Soap(lab)
    soap.call("RetrieveServiceContent", SI)
    assert soap.cookie.startswith('vmware_soap_session="')
    refused(soap, "NotAuthenticated", "CurrentTime", SI)


def test_cookie(soap):
    """With quotes as it was set, without (Go's jar), with attributes."""
    bare = soap.cookie.replace('"', "")
    for cookie in (soap.cookie, bare, soap.cookie + "; Path=/; HttpOnly;",
                   "a=b; " + bare):
        soap.call("CurrentTime", SI, Cookie=cookie)
    for cookie in (bare[:-1], bare + "0", "vmware_soap_session="):
        refused(soap, "NotAuthenticated", "CurrentTime", SI, Cookie=cookie)


def test_second_login_on_a_session(soap):
    with pytest.raises(Fault) as caught:
        soap.login()
    assert caught.value.type == "InvalidLogin"


def test_logout_ends_it(soap, lab):
    soap.call("Logout", SM)
    assert lab.ctl("world")["sessions"] == 0
    refused(soap, "NotAuthenticated", "CurrentTime", SI)


def test_idle_session_dies(start_lab):  # noqa: F811
    lab = start_lab(dict(small_world(), session_idle_s=1))
    soap = Soap(lab)
    soap.login()
    soap.call("CurrentTime", SI)
    while lab.ctl("world")["sessions"]:
        # a look by another client is what lets the lab sweep
        refused(Soap(lab), "NotAuthenticated", "CurrentTime", SI)
    refused(soap, "NotAuthenticated", "CurrentTime", SI)


def test_soap_action(soap):
    refused(soap, "InvalidRequest", "CurrentTime", SI, SOAPAction=None)
    refused(soap, "InvalidRequest", "CurrentTime", SI, SOAPAction="urn:x")
    soap.call("CurrentTime", SI, SOAPAction='"urn:vim25/6.5"')


@pytest.mark.parametrize("args, why", [
    ("<memory>false</memory><name>n</name><quiesce>false</quiesce>",
     "missing: &quot;name&quot;"),
    ("<name>n</name><quiesce>false</quiesce>", "memory"),
    ("<name>n</name><memory>no</memory><quiesce>false</quiesce>",
     "no boolean"),
    ("<name>n</name><nonsense/><memory>false</memory>"
     "<quiesce>false</quiesce>", "nonsense"),
    ("<name>n</name><name>m</name><memory>false</memory>"
     "<quiesce>false</quiesce>", "repeated"),
])
def test_elements(soap, vm, args, why):
    text = refused(soap, "InvalidRequest", "CreateSnapshot_Task", vm, args)
    assert why in text


def test_spec_order(soap, vm):
    extra = ('<extraConfig><key>a</key><value xsi:type="xsd:string">b</value>'
             "</extraConfig>")
    cbt = "<changeTrackingEnabled>true</changeTrackingEnabled>"
    refused(soap, "InvalidRequest", "ReconfigVM_Task", vm,
            f"<spec>{cbt}{extra}</spec>")
    refused(soap, "InvalidRequest", "ReconfigVM_Task", vm,
            f"<spec>{extra.replace(' xsi:type', ' type')}</spec>")
    soap.task("ReconfigVM_Task", vm, f"<spec>{extra}{cbt}</spec>")
    assert ">b<" in soap.prop(vm, "config.extraConfig")


def test_not_xml(soap):
    for body in ("", "hello", "<a/>", ENVELOPE.format(""),
                 '<!DOCTYPE x [<!ENTITY a "b">]>' + ENVELOPE.format("&a;")):
        with pytest.raises(Fault) as caught:
            soap.post(body)
        assert caught.value.type == "InvalidRequest"


def test_unknown_method(soap, vm):
    text = refused(soap, "MethodNotFound", "ExportVm", vm)
    assert "<method>ExportVm</method>" in text
    refused(soap, "MethodNotFound", "PowerOffVM_Task", SI)


def test_unknown_objects(soap, vm):
    refused(soap, "ManagedObjectNotFound", "PowerOffVM_Task",
            "VirtualMachine:vm-999")
    refused(soap, "ManagedObjectNotFound", "PowerOffVM_Task",
            vm.replace("VirtualMachine", "HostSystem"))


def test_paths(soap, vm):
    label = soap.prop(vm, "config.hardware.device[2000].deviceInfo.label")
    assert ">Hard disk 1<" in label
    assert "<val" not in soap.prop(vm, "config.hardware.device[7]")
    for path in ("nonsense", "config.hardware.nonsense", "config.",
                 "config.hardware.device.key", "config.hardware[2000]",
                 "name.first", "config.hardware.device[2000].nonsense"):
        with pytest.raises(Fault) as caught:
            soap.prop(vm, path)
        assert caught.value.type == "InvalidProperty", path


def test_type_names(soap, vm):
    with pytest.raises(Fault) as caught:
        soap.prop("Nonsense:" + vm.split(":")[1], "name")
    assert caught.value.type in ("InvalidType", "ManagedObjectNotFound")


def test_traversal_with_names(soap, lab):
    """Recursion by names from the root folder, without a view."""
    name = "<selectSet><name>{}</name></selectSet>"
    text = soap.call("RetrieveProperties", PC, (
        "<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet>"
        '</propSet><objectSet><obj type="Folder">group-d1</obj>'
        "<skip>true</skip>"
        '<selectSet xsi:type="TraversalSpec"><name>f</name>'
        "<type>Folder</type><path>childEntity</path><skip>false</skip>"
        + name.format("f") + name.format("d") + "</selectSet>"
        '<selectSet xsi:type="TraversalSpec"><name>d</name>'
        "<type>Datacenter</type><path>vmFolder</path><skip>false</skip>"
        + name.format("f") + "</selectSet></objectSet></specSet>"))
    assert re.findall("<val [^>]*>([^<]*)<", text) == ["vm1"]
    assert text.count("<returnval>") == 1


def test_areas_are_cut_and_joined(start_lab):  # noqa: F811
    world = dict(small_world(guest={"writes_per_s": 0}), area_limit=3)
    lab = start_lab(world)
    soap, moref = Soap(lab), lab.vms["vm1"]["moref"]
    soap.login()
    enable_cbt(soap, moref)
    snap = soap.snapshot(moref)
    change = re.search("<changeId>([^<]+)<", soap.prop(
        f"VirtualMachineSnapshot:{snap}", "config.hardware.device")).group(1)
    for i in range(8):
        lab.ctl("write", vm="vm1", disk=2000, offset=i << 20, length=512)
    soap.remove(snap)
    snap = soap.snapshot(moref)
    off, size, areas, calls = 0, 8 << 20, [], 0
    while off < size:
        text = soap.call(
            "QueryChangedDiskAreas", f"VirtualMachine:{moref}",
            f'<snapshot type="VirtualMachineSnapshot">{snap}</snapshot>'
            f"<deviceKey>2000</deviceKey><startOffset>{off}</startOffset>"
            f"<changeId>{change}</changeId>")
        found = re.findall("<start>([0-9]+)</start><length>([0-9]+)<", text)
        assert len(found) <= 3
        areas += found
        off += int(re.search(r"</startOffset><length>([0-9]+)<",
                             text).group(1))
        calls += 1
    assert off == size and calls > 2
    assert [int(start) for start, _ in areas] == [i << 20 for i in range(8)]


def test_violation_is_noted(start_lab):  # noqa: F811
    lab = start_lab(dict(small_world(), consolidate_ms=600000))
    soap, moref = Soap(lab), lab.vms["vm1"]["moref"]
    soap.login()
    soap.remove(soap.snapshot(moref))
    assert lab.ctl("world")["violations"] == []
    soap.snapshot(moref)
    assert [v["what"] for v in lab.ctl("world")["violations"]] == [
        "snapshot while consolidation is needed"]


def test_cbt_not_with_snapshots(soap, vm):
    soap.snapshot(vm.split(":")[1])
    info = soap.task("ReconfigVM_Task", vm,
                     "<spec><changeTrackingEnabled>true"
                     "</changeTrackingEnabled></spec>")
    assert "InvalidState" in info


@pytest.mark.parametrize("world", [
    {"nonsense": 1}, {"vms": [{"name": "a", "disk": []}]},
    {"vms": [{"disks": []}]}, {"vms": [{"name": "a", "disks": [
        {"size": 1000}]}]}, {"vms": [{"name": "a", "firmware": "open"}]},
    {"vms": [{"name": "a", "disks": [{"size": 512, "unit": 7}]}]},
    {"seed": "x"},
])
def test_bad_world(start_lab, world):  # noqa: F811
    with pytest.raises(AssertionError) as caught:
        start_lab(world)
    assert "world file" in str(caught.value)


def test_control_refuses(lab):
    for verb, keys in (("nonsense", {}), ("power", {"vm": "vm1"}),
                       ("write", {"vm": "vm1", "disk": 2000, "offset": 1,
                                  "length": 512}),
                       ("write", {"vm": "vm1", "disk": 2000, "offset": 8 << 20,
                                  "length": 512}),
                       ("power", {"vm": "x", "state": "on"}),
                       ("latency", {"ms": 1}), ("fault", {"method": "X"})):
        with pytest.raises(Refused):
            lab.ctl(verb, **keys)


def test_http_faults(lab, soap, vm):
    import http.client
    import urllib.error
    lab.ctl("fault", method="CurrentTime", fault="http", code=503)
    with pytest.raises(urllib.error.HTTPError) as caught:
        soap.call("CurrentTime", SI)
    assert caught.value.code == 503
    lab.ctl("fault", method="CurrentTime", fault="drop")
    with pytest.raises((http.client.HTTPException, urllib.error.URLError)):
        soap.call("CurrentTime", SI)
    lab.ctl("fault", method="CreateSnapshot_Task", fault="lose")
    with pytest.raises((http.client.HTTPException, urllib.error.URLError)):
        soap.snapshot(vm.split(":")[1], "lost")
    while not lab.state("vm1")["snapshots"]:
        pass
    soap.call("CurrentTime", SI)
