/* What the tests of vsphere share: a server that is a list of rules (the
 * first that fits a request answers it), and the parts of its answers. */
#ifndef UNIT_VSPHERE_WORLD_H
#define UNIT_VSPHERE_WORLD_H

#include "base/str.h"
#include "vsphere/soap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define CERT_SHA256                                                            \
    "B2:1A:4A:EE:8E:2D:10:71:3C:85:02:A3:32:89:1E:02:2A:FE:CF:B7:37:E5:18:90:" \
    "7F:F5:22:57:25:58:A4:3F"
#define CERT_SHA1 "C0:A0:5C:7F:C3:C3:F5:42:66:6D:9B:7F:BD:B9:7A:24:50:88:3C:10"

#define FOREVER -1

/* inner: what stands in the response, or what follows it after "fault:",
 * "http:STATUS:" or "raw:". */
struct rule {
    const char *method;
    const char *when; /* must be in the request; NULL: nothing */
    const char *inner;
    int times;
};

struct setting {
    struct httpd *d;
    struct secret *password;
    struct vs *vs;
};

void setting_fini(struct setting *s);
#define defer_setting defer(setting_fini)

/* Serves the rules given, which end with an empty one, before the usual
 * ones. */
void start(struct setting *s, const struct rule *rules);
/* NULL when it fails. */
struct vs *connect_with(struct setting *s, const volatile sig_atomic_t *stop,
                        struct err *e);
/* Both, or the test fails. */
void open_world(struct setting *s, const struct rule *rules);
/* Changes the first rule of those given. */
void set_first_rule(const struct rule *rule);
/* How many requests so far held this text. */
int seen(const char *text);

/* One property of an ObjectContent. */
#define PROP(name, val)                                               \
    "<propSet><name>" name "</name><val xsi:type=\"xsd:string\">" val \
    "</val></propSet>"
#define REF_PROP(name, type, id)                      \
    "<propSet><name>" name "</name><val type=\"" type \
    "\" xsi:type=\"ManagedObjectReference\">" id "</val></propSet>"
#define OBJECT(type, id, props) \
    "<objects><obj type=\"" type "\">" id "</obj>" props "</objects>"
#define ONE(type, id, props) \
    "<returnval>" OBJECT(type, id, props) "</returnval>"

#define TASK(state, more)                                                  \
    ONE("Task", "task-9",                                                  \
        "<propSet><name>info</name><val xsi:type=\"TaskInfo\"><key>task-9" \
        "</key><state>" state "</state>" more "</val></propSet>")
#define TASK_ERROR(fault, text)            \
    TASK("error",                          \
         "<error><fault xsi:type=\"" fault \
         "\"></fault><localizedMessage>" text "</localizedMessage></error>")
#define TASK_STARTED "<returnval type=\"Task\">task-9</returnval>"

/* Devices: four disks on four families of controllers, out of order. */
#define CONTROLLER(type, key, bus, more)                              \
    "<device xsi:type=\"" type "\"><key>" key "</key><busNumber>" bus \
    "</busNumber>" more "</device>"
#define DISK(key, label, backing, more, ctl, unit, size)                \
    "<device xsi:type=\"vim25:VirtualDisk\"><key>" key                  \
    "</key><deviceInfo xsi:type=\"Description\"><label>" label          \
    "</label></deviceInfo><backing xsi:type=\"" backing "\">" more      \
    "</backing><controllerKey>" ctl "</controllerKey><unitNumber>" unit \
    "</unitNumber>" size "</device>"
#define CHANGE_ID "52 f3 b6 37 30 8d ea 3e-58 70 c0 fd 61 44 26 62"

/* clang-format off */
#define HARDWARE                                                               \
    "<numCPU>4</numCPU><numCoresPerSocket>2</numCoresPerSocket>"               \
    "<memoryMB>8192</memoryMB>"                                                \
    CONTROLLER("VirtualNVMEController", "31000", "0", "")                      \
    CONTROLLER("ParaVirtualSCSIController", "1000", "0",                       \
               "<sharedBus>noSharing</sharedBus>")                             \
    CONTROLLER("VirtualAHCIController", "15000", "1", "")                      \
    DISK("32000", "Hard disk 4", "VirtualDiskSeSparseBackingInfo",             \
         "<fileName>[ds2] vm/vm_3.vmdk</fileName>"                             \
         "<diskMode>independent_persistent</diskMode>",                        \
         "31000", "0", "<capacityInKB>10</capacityInKB>")                      \
    DISK("2001", "Hard disk 2", "VirtualDiskFlatVer2BackingInfo",              \
         "<fileName>[ds1] vm/vm_1.vmdk</fileName><diskMode>persistent"         \
         "</diskMode><uuid>6000C29b</uuid><changeId>" CHANGE_ID "/7"           \
         "</changeId><sharing>sharingNone</sharing>",                          \
         "1000", "1",                                                          \
         "<capacityInKB>1</capacityInKB>"                                      \
         "<capacityInBytes>1049088</capacityInBytes>")                         \
    DISK("2000", "Hard disk 1", "VirtualDiskFlatVer2BackingInfo",              \
         "<fileName>[ds1] vm/vm.vmdk</fileName><diskMode>persistent"           \
         "</diskMode>",                                                        \
         "1000", "0", "<capacityInBytes>4194304</capacityInBytes>")            \
    DISK("16000", "Hard disk 3", "VirtualDiskRawDiskMappingVer1BackingInfo",   \
         "<fileName>[ds1] vm/vm_2.vmdk</fileName>"                             \
         "<compatibilityMode>physicalMode</compatibilityMode>",                \
         "15000", "2", "<capacityInBytes>512</capacityInBytes>")               \
    "<device xsi:type=\"VirtualVmxnet3\"><key>4000</key><deviceInfo><label>"   \
    "Network adapter 1</label></deviceInfo><backing xsi:type=\""               \
    "VirtualEthernetCardDistributedVirtualPortBackingInfo\"><port>"            \
    "<switchUuid>50 2b</switchUuid><portgroupKey>dvportgroup-12"               \
    "</portgroupKey></port></backing><macAddress>00:50:56:aa:bb:cc"            \
    "</macAddress></device>"                                                   \
    "<device xsi:type=\"VirtualE1000e\"><key>4001</key><backing xsi:type=\""   \
    "VirtualEthernetCardNetworkBackingInfo\"><deviceName>VM Network"           \
    "</deviceName></backing><macAddress>00:50:56:aa:bb:cd</macAddress>"        \
    "</device>"                                                                \
    "<device xsi:type=\"VirtualTPM\"><key>11000</key></device>"
/* clang-format on */

#define HARDWARE_PROP                       \
    "<propSet><name>config.hardware</name>" \
    "<val xsi:type=\"VirtualHardware\">" HARDWARE "</val></propSet>"
#define EXTRA_PROP                                                         \
    "<propSet><name>config.extraConfig</name><val xsi:type=\""             \
    "ArrayOfOptionValue\"><OptionValue xsi:type=\"OptionValue\"><key>"     \
    "scsi0:1.ctkEnabled</key><value xsi:type=\"xsd:string\">TRUE</value>"  \
    "</OptionValue><OptionValue><key>scsi0:0.ctkEnabled</key><value>FALSE" \
    "</value></OptionValue></val></propSet>"

#define FAULT(type, text)                                            \
    "fault:<faultcode>ServerFaultCode</faultcode><faultstring>" text \
    "</faultstring><detail><" type                                   \
    "Fault xmlns=\"urn:vim25\" xsi:type=\"" type "\"></" type        \
    "Fault></detail>"

#endif
