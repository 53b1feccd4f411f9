/* Properties of VMs but config, of snapshots and of tasks. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lab/vcenter/inside.h"

static const char *
tools_status(const struct vm *vm)
{
    static const char *const names[] = { "toolsNotInstalled", "toolsNotRunning",
                                         "toolsOk" };

    return names[vm->tools];
}

static const char *
tools_version(const struct vm *vm)
{
    return vm->tools == TOOLS_NONE ? "guestToolsNotInstalled"
                                   : "guestToolsUnmanaged";
}

static const char *
tools_running(const struct vm *vm)
{
    return vm->tools == TOOLS_RUNNING ? "guestToolsRunning"
                                      : "guestToolsNotRunning";
}

static struct val *
runtime(const struct vm *vm)
{
    struct val *r = val_object("VirtualMachineRuntimeInfo"), *q, *choice, *ok;

    val_link(r, "host", "HostSystem", vm->host->id);
    val_str(r, "connectionState", vm->connection);
    val_str(r, "powerState", vm_power_name(vm->power));
    val_str(r, "faultToleranceState", "notConfigured");
    val_bool(r, "toolsInstallerMounted", false);
    if (vm->power == VM_ON)
        val_time(r, "bootTime", vm->booted);
    if (vm->question[0]) {
        q = val_object("VirtualMachineQuestionInfo");
        choice = val_object("ChoiceOption");
        ok = val_object("ElementDescription");
        val_str(ok, "label", "OK");
        val_str(ok, "summary", "OK");
        val_str(ok, "key", "0");
        val_str(q, "id", "1");
        val_str(q, "text", vm->question);
        val_put(choice, "choiceInfo", ok);
        val_put(q, "choice", choice);
        val_put(r, "question", q);
    }
    val_int(r, "numMksConnections", 0);
    val_str(r, "recordReplayState", "inactive");
    val_bool(r, "onlineStandby", false);
    val_bool(r, "consolidationNeeded", vm_consolidation_needed(vm));
    return r;
}

static struct val *
guest_nic(const struct vm *vm, const struct vm_nic *n, int number)
{
    struct val *g = val_object("GuestNicInfo");
    char ip[32];

    snprintf(ip, sizeof ip, "192.0.2.%d", 10 + number);
    val_str(g, "network", n->network->name);
    val_put(g, "ipAddress", val_scalar("string", ip));
    val_str(g, "macAddress", n->mac);
    val_bool(g, "connected", vm->power == VM_ON);
    val_int(g, "deviceConfigId", n->key);
    return g;
}

static struct val *
guest(const struct vm *vm)
{
    struct val *g = val_object("GuestInfo");
    bool up = vm->tools == TOOLS_RUNNING;

    val_str(g, "toolsStatus", tools_status(vm));
    val_str(g, "toolsVersionStatus", tools_version(vm));
    val_str(g, "toolsVersionStatus2", tools_version(vm));
    val_str(g, "toolsRunningStatus", tools_running(vm));
    if (up) {
        val_str(g, "toolsVersion", "12352");
        val_str(g, "guestId", vm->guest_id);
        val_str(g, "guestFamily",
                strstr(vm->guest_id, "win") ? "windowsGuest" : "linuxGuest");
        val_str(g, "guestFullName", vm->guest_name);
        val_str(g, "hostName", vm->ent->name);
        for (size_t i = 0; i < vm->nics.n; i++)
            val_put(g, "net", guest_nic(vm, &vm->nics.p[i], (int)i));
    }
    val_str(g, "guestState", up ? "running" : "notRunning");
    return g;
}

static struct val *
summary(const struct vm *vm)
{
    struct val *s = val_object("VirtualMachineSummary"),
               *c = val_object("VirtualMachineConfigSummary"),
               *g = val_object("VirtualMachineGuestSummary"),
               *q = val_object("VirtualMachineQuickStats"),
               *st = val_object("VirtualMachineStorageSummary");
    char path[512];
    int64_t bytes = 0;

    for (size_t i = 0; i < vm->disks.n; i++)
        bytes += (int64_t)ldisk_size(vm->disks.p[i]->disk);
    snprintf(path, sizeof path, "[%s] %s/%s.vmx", vm->datastore->name, vm->dir,
             vm->dir);
    val_str(c, "name", vm->ent->name);
    val_bool(c, "template", vm->template);
    val_str(c, "vmPathName", path);
    val_int(c, "memorySizeMB", vm->memory_mb);
    val_int(c, "numCpu", vm->cpus);
    val_int(c, "numEthernetCards", (int64_t)vm->nics.n);
    val_int(c, "numVirtualDisks", (int64_t)vm->disks.n);
    val_str(c, "uuid", vm->uuid);
    val_str(c, "instanceUuid", vm->instance_uuid);
    val_str(c, "guestId", vm->guest_id);
    val_str(c, "guestFullName", vm->guest_name);
    val_str(c, "annotation", vm->annotation);
    val_str(g, "toolsStatus", tools_status(vm));
    val_str(g, "toolsVersionStatus2", tools_version(vm));
    val_str(g, "toolsRunningStatus", tools_running(vm));
    val_str(q, "guestHeartbeatStatus", "green");
    val_int(st, "committed", bytes);
    val_int(st, "uncommitted", 0);
    val_int(st, "unshared", bytes);
    val_time(st, "timestamp", clock_wall_ms());
    val_link(s, "vm", "VirtualMachine", vm->ent->id);
    val_put(s, "runtime", runtime(vm));
    val_put(s, "guest", g);
    val_put(s, "config", c);
    val_put(s, "storage", st);
    val_put(s, "quickStats", q);
    val_str(s, "overallStatus", "green");
    return s;
}

static struct val *
capability(const struct vm *vm)
{
    static const char *const yes[] = {
        "snapshotOperationsSupported", "multipleSnapshotsSupported",
        "snapshotConfigSupported",     "poweredOffSnapshotsSupported",
        "memorySnapshotsSupported",    "revertToSnapshotSupported",
        "quiescedSnapshotsSupported",  "toolsAutoUpdateSupported",
        "toolsSyncTimeSupported",      "diskSharesSupported",
        "bootOptionsSupported",        "bootRetryOptionsSupported",
        "seSparseDiskSupported",
    };
    static const char *const no[] = {
        "disableSnapshotsSupported",
        "lockSnapshotsSupported",
        "consolePreferencesSupported",
        "cpuFeatureMaskSupported",
        "s1AcpiManagementSupported",
        "settingScreenResolutionSupported",
        "vmNpivWwnSupported",
        "npivWwnOnNonRdmVmSupported",
        "vmNpivWwnDisableSupported",
        "vmNpivWwnUpdateSupported",
        "swapPlacementSupported",
        "virtualMmuUsageSupported",
        "settingVideoRamSizeSupported",
        "settingDisplayTopologySupported",
        "recordReplaySupported",
        "multipleCoresPerSocketSupported",
        "hostBasedReplicationSupported",
        "guestAutoLockSupported",
        "memoryReservationLockSupported",
        "featureRequirementSupported",
        "poweredOnMonitorTypeChangeSupported",
        "nestedHVSupported",
        "vPMCSupported",
    };
    struct val *c = val_object("VirtualMachineCapability");

    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        val_bool(c, yes[i], true);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        val_bool(c, no[i], false);
    val_bool(c, "changeTrackingSupported", vm->cbt_supported);
    return c;
}

static struct val *
tree(const struct vm *vm, const struct snap *s)
{
    struct val *t = val_object("VirtualMachineSnapshotTree");

    val_link(t, "snapshot", "VirtualMachineSnapshot", s->id);
    val_link(t, "vm", "VirtualMachine", vm->ent->id);
    val_str(t, "name", s->name);
    val_str(t, "description", s->description);
    val_int(t, "id", s->num);
    val_time(t, "createTime", s->created);
    val_str(t, "state", s->power == VM_SUSPENDED ? "suspended" : "poweredOff");
    val_bool(t, "quiesced", s->quiesced);
    for (size_t i = 0; i < vm->snaps.n; i++)
        if (vm->snaps.p[i]->parent == s)
            val_put(t, "childSnapshotList", tree(vm, vm->snaps.p[i]));
    val_bool(t, "replaySupported", false);
    return t;
}

static struct val *
snapshots(const struct vm *vm)
{
    struct val *i;

    if (!vm->snaps.n)
        return NULL;
    i = val_object("VirtualMachineSnapshotInfo");
    val_link(i, "currentSnapshot", "VirtualMachineSnapshot", vm->current->id);
    for (size_t n = 0; n < vm->snaps.n; n++)
        if (!vm->snaps.p[n]->parent)
            val_put(i, "rootSnapshotList", tree(vm, vm->snaps.p[n]));
    return i;
}

static struct val *
children(const struct vm *vm, const struct snap *parent)
{
    struct val *a = val_array("moref");

    for (size_t i = 0; i < vm->snaps.n; i++)
        if (vm->snaps.p[i]->parent == parent)
            val_push(a, val_ref("VirtualMachineSnapshot", vm->snaps.p[i]->id));
    return a;
}

static void
add_file(struct val *layout, int key, const char *name, const char *type,
         int64_t size)
{
    struct val *f = val_object("VirtualMachineFileLayoutExFileInfo");

    val_int(f, "key", key);
    val_str(f, "name", name);
    val_str(f, "type", type);
    val_int(f, "size", size);
    val_put(layout, "file", f);
}

static struct val *
layout(const struct vm *vm)
{
    struct val *l = val_object("VirtualMachineFileLayoutEx");
    char path[512];
    int key = 0;

    snprintf(path, sizeof path, "[%s] %s/%s.vmx", vm->datastore->name, vm->dir,
             vm->dir);
    add_file(l, key++, path, "config", 4096);
    for (size_t i = 0; i < vm->disks.n; i++) {
        const struct vm_disk *d = vm->disks.p[i];
        struct val *dl = val_object("VirtualMachineFileLayoutExDiskLayout");

        val_int(dl, "key", d->key);
        for (size_t v = 0; v <= d->versions.n; v++) {
            struct val *u = val_object("VirtualMachineFileLayoutExDiskUnit");

            vm_disk_path(vm, d, v < d->versions.n ? d->versions.p[v] : 0, path,
                         sizeof path);
            val_put(u, "fileKey", val_integer(key));
            val_put(dl, "chain", u);
            add_file(l, key++, path, "diskDescriptor",
                     (int64_t)ldisk_size(d->disk));
        }
        val_put(l, "disk", dl);
    }
    val_time(l, "timestamp", clock_wall_ms());
    return l;
}

static struct val *
one_ref(const struct world *w, const struct ent *e)
{
    struct val *a = val_array("moref");

    val_push(a, val_ref(ent_type(w, e), e->id));
    return a;
}

static struct val *
networks(const struct vm *vm)
{
    struct val *a = val_array("moref");

    for (size_t i = 0; i < vm->nics.n; i++) {
        const struct ent *n = vm->nics.p[i].network;
        size_t j = 0;

        while (vm->nics.p[j].network != n)
            j++;
        if (i == j)
            val_push(a, val_ref(ent_type(vm->w, n), n->id));
    }
    return a;
}

struct val *
prop_vm(const struct vm *vm, const char *name)
{
    if (!strcmp(name, "config"))
        return vm_config(vm, NULL);
    if (!strcmp(name, "runtime"))
        return runtime(vm);
    if (!strcmp(name, "guest"))
        return guest(vm);
    if (!strcmp(name, "summary"))
        return summary(vm);
    if (!strcmp(name, "capability"))
        return capability(vm);
    if (!strcmp(name, "snapshot"))
        return snapshots(vm);
    if (!strcmp(name, "rootSnapshot"))
        return children(vm, NULL);
    if (!strcmp(name, "layoutEx"))
        return layout(vm);
    if (!strcmp(name, "datastore"))
        return one_ref(vm->w, vm->datastore);
    if (!strcmp(name, "network"))
        return networks(vm);
    if (!strcmp(name, "resourcePool") && !vm->template)
        return val_ref("ResourcePool", vm->pool->id);
    if (!strcmp(name, "guestHeartbeatStatus"))
        return val_scalar("ManagedEntityStatus", "green");
    return NULL;
}

struct val *
prop_snapshot(const struct snap *s, const char *name)
{
    if (!strcmp(name, "config"))
        return vm_config(s->vm, s);
    if (!strcmp(name, "vm"))
        return val_ref("VirtualMachine", s->vm->ent->id);
    if (!strcmp(name, "childSnapshot"))
        return children(s->vm, s);
    return NULL;
}

struct val *
task_info(const struct task *t)
{
    struct val *i = val_object("TaskInfo"), *who = val_object("TaskReasonUser");

    val_str(i, "key", t->id);
    val_link(i, "task", "Task", t->id);
    val_str(i, "name", t->method);
    val_str(i, "descriptionId", t->description);
    val_link(i, "entity", "VirtualMachine", t->vm->ent->id);
    val_str(i, "entityName", t->vm->ent->name);
    val_str(i, "state", task_state_name(t->state));
    val_bool(i, "cancelled", false);
    val_bool(i, "cancelable", false);
    if (t->state == TASK_ERROR)
        val_put(i, "error", val_localized(&t->fault));
    if (t->state == TASK_SUCCESS && t->result_type[0])
        val_link(i, "result", t->result_type, t->result_id);
    if (t->state == TASK_RUNNING)
        val_int(i, "progress", t->progress);
    val_str(who, "userName", t->user);
    val_put(i, "reason", who);
    val_time(i, "queueTime", t->queued);
    if (t->started)
        val_time(i, "startTime", t->started);
    if (t->completed)
        val_time(i, "completeTime", t->completed);
    val_int(i, "eventChainId", t->num);
    return i;
}
