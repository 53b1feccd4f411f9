/* Faults: the type decides the class, the fields say the reason. */
#include "vsphere/soap.h"

#include <stdio.h>
#include <string.h>

#define FIELD_MAX    120 /* bytes shown of one field */
#define MESSAGES_MAX 3   /* faultMessages shown */

static const struct kind {
    const char *type;
    enum err_class class;
    const char *way_out; /* "": nothing to add */
} kinds[] = {
    { "NotAuthenticated", ERR_AUTH, "log in again" },
    { "InvalidLogin", ERR_AUTH,
      "check user and password (a locked account looks the same)" },
    { "NoPermission", ERR_AUTH, "give the account this privilege" },
    { "ManagedObjectNotFound", ERR_NOTFOUND, "" },
    { "NotFound", ERR_NOTFOUND, "" },
    { "TaskInProgress", ERR_BUSY, "" },
    { "ConcurrentAccess", ERR_BUSY, "" },
    { "FileLocked", ERR_BUSY, "another product may hold the disk" },
    { "MethodDisabled", ERR_BUSY,
      "another product, such as a backup, has blocked it" },
    { "HostNotConnected", ERR_NET, "" },
    { "HostNotReachable", ERR_NET, "" },
    { "HostCommunication", ERR_NET, "" },
    { "HostConnectFault", ERR_NET, "" },
    { "NoDiskSpace", ERR_NOSPACE, "make room on the datastore" },
    { "RestrictedVersion", ERR_REMOTE,
      "the free ESXi licence allows no changes, use a licensed host" },
    { "QuestionPending", ERR_REMOTE, "answer the question in vSphere" },
    { "ToolsUnavailable", ERR_REMOTE, "start VMware Tools in the guest" },
    { "TooManySnapshotLevels", ERR_REMOTE, "remove or consolidate snapshots" },
    { "FileFault", ERR_REMOTE, "" },
};

/* Fields of faults that carry the reason. */
static const struct {
    const char *path, *label;
} fields[] = {
    { "privilegeId", "privilege" },
    { "missingPrivileges/privilegeIds", "privilege" },
    { "invalidProperty", "argument" },
    { "name", "name" },
    { "file", "file" },
    { "datastore", "datastore" },
    { "reason", "reason" },
    { "existingState", "state" },
    { "text", "question" },
    { "source", "by" },
    { "method", "method" },
    { "fault/localizedMessage", "because" },
    { "faultCause/localizedMessage", "because" },
};

static const struct kind *
find_kind(const char *type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].type, type))
            return &kinds[i];
    return NULL;
}

/* xsi:type; else the element's name less the "Fault" which is added to it,
 * unless only the whole name means something to us. */
static void
type_of(const struct xml *fault, const char *element, char *out, size_t n)
{
    size_t len = element ? strlen(element) : 0;

    if (fault && fault->type) {
        snprintf(out, n, "%s", fault->type);
        return;
    }
    snprintf(out, n, "%s", element ? element : "");
    if (len > 5 && len < n && str_ends(out, "Fault")) {
        out[len - 5] = '\0';
        if (!find_kind(out) && find_kind(element))
            snprintf(out, n, "%s", element);
    }
}

static void
add_fields(struct str *s, const struct xml *fault)
{
    const struct xml *m = xml_kid(fault, "faultMessage");

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *value = text_at(fault, fields[i].path);

        if (*value)
            str_addf(s, " (%s %.*s)", fields[i].label, FIELD_MAX, value);
    }
    for (int i = 0; m && i < MESSAGES_MAX; i++, m = xml_next(m))
        str_addf(s, " [%.*s: %.*s]", FIELD_MAX, text_at(m, "key"), FIELD_MAX,
                 text_at(m, "message"));
}

int
fault_set(struct vs *vs, const struct xml *fault, const char *element,
          const char *text, struct err *e)
{
    defer(str_fini) struct str reason = STR_INIT;
    char type[sizeof e->fault];
    const struct kind *kind;

    type_of(fault, element, type, sizeof type);
    kind = find_kind(type);
    if (fault)
        add_fields(&reason, fault);
    if (kind && *kind->way_out)
        str_addf(&reason, "; %s", kind->way_out);
    err_set(e, kind ? kind->class : ERR_REMOTE, "%s%s%.200s%s",
            *type ? type : "fault", *text ? ": " : "", text, str_text(&reason));
    snprintf(e->fault, sizeof e->fault, "%s", type);
    snprintf(vs->fault_key, sizeof vs->fault_key, "%s",
             text_at(fault, "faultMessage/key"));
    return -1;
}

bool
fault_is(const struct err *e, const char *type)
{
    return !strcmp(e->fault, type);
}
