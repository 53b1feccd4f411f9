/* A vCenter made of rules, for the tests of vsphere. */
#include "vsphere_world.h"

#include <pthread.h>

static const char cert_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBmzCCAUGgAwIBAgIUZ16/Jg91Ara2S6/i23F0zYmHr0MwCgYIKoZIzj0EAwIw\n"
    "FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjAwMjcxMVoYDzIxMjYxMDI5\n"
    "MDAyNzExWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n"
    "PQMBBwNCAAQxjxUaDjZUEhpCcpzswcwG6YI/iXLnB2D7kbkkbrsoi676c2QM/KP5\n"
    "NMBuxy/ElPXggY7flRpZ9JJX+kklEMOvo28wbTAdBgNVHQ4EFgQU0Q258154Xtuq\n"
    "5H5M8UFm79gHUXkwHwYDVR0jBBgwFoAU0Q258154Xtuq5H5M8UFm79gHUXkwDwYD\n"
    "VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI\n"
    "zj0EAwIDSAAwRQIgbeC0FG9g9k6261zlrOm3k712n44Xo+RcIjyTcfqVqRkCIQCj\n"
    "yhXMgEbgyDXW+4BJZLJD1oIT6eh99XTW7jlmLndVBg==\n"
    "-----END CERTIFICATE-----\n";
static const char key_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgRqGKrtw10lzEhOZV\n"
    "ZOiJb2Wpzcz8QGJpkWQuoO8jUMihRANCAAQxjxUaDjZUEhpCcpzswcwG6YI/iXLn\n"
    "B2D7kbkkbrsoi676c2QM/KP5NMBuxy/ElPXggY7flRpZ9JJX+kklEMOv\n"
    "-----END PRIVATE KEY-----\n";
static const char versions_xml[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>"
    "<namespaces version=\"1.0\">"
    "<namespace><name>urn:internalvim25</name><version>8.0.0.5</version>"
    "</namespace>"
    "<namespace><name>urn:vim25</name><version>8.0.2.0</version>"
    "<priorVersions><version>6.7.3</version><version>8.0.1.0</version>"
    "<version>7.0.3.0</version></priorVersions></namespace></namespaces>";

static const char service_content[] =
    "<returnval><rootFolder type=\"Folder\">group-d1</rootFolder>"
    "<propertyCollector type=\"PropertyCollector\">propertyCollector"
    "</propertyCollector><viewManager type=\"ViewManager\">ViewManager"
    "</viewManager><about><name>VMware vCenter Server</name>"
    "<fullName>VMware vCenter Server 8.0.2 build-22617221</fullName>"
    "<version>8.0.2</version><apiType>VirtualCenter</apiType></about>"
    "<sessionManager type=\"SessionManager\">SessionManager</sessionManager>"
    "<searchIndex type=\"SearchIndex\">SearchIndex</searchIndex></returnval>";

static const char vm_answer[] = ONE(
    "VirtualMachine", "vm-57",
    PROP("name", "web%2fone &amp; only") PROP("config.uuid", "4210-bios")
        REF_PROP("parent", "Folder", "group-v3") PROP("config.firmware", "efi")
            PROP("config.version", "vmx-19")
                PROP("config.changeTrackingEnabled", "true")
                    PROP("capability.changeTrackingSupported", "true")
                        PROP("runtime.powerState", "poweredOn")
                            PROP("runtime.connectionState", "connected")
                                REF_PROP("runtime.host", "HostSystem", "host-9")
                                    PROP("guest.toolsRunningStatus",
                                         "guestToolsRunning")
                                        HARDWARE_PROP EXTRA_PROP
    "<propSet><name>config.bootOptions</name><val>"
    "<efiSecureBootEnabled>true</efiSecureBootEnabled>"
    "<bootOrder xsi:type=\"VirtualMachineBootOptionsBootableEthernetDevice\">"
    "<deviceKey>2000</deviceKey></bootOrder>"
    "<bootOrder xsi:type=\"VirtualMachineBootOptionsBootableDiskDevice\">"
    "<deviceKey>2001</deviceKey></bootOrder></val></propSet>"
    "<propSet><name>network</name><val xsi:type=\""
    "ArrayOfManagedObjectReference\"><ManagedObjectReference "
    "type=\"Network\">network-1</ManagedObjectReference>"
    "<ManagedObjectReference type=\"DistributedVirtualPortgroup\">"
    "dvportgroup-12</ManagedObjectReference></val></propSet>"
    "<propSet><name>runtime.question</name><val><id>1</id>"
    "<text>moved or copied?</text></val></propSet>"
    "<propSet><name>snapshot</name><val><rootSnapshotList><snapshot type=\""
    "VirtualMachineSnapshot\">snapshot-1</snapshot><name>a</name>"
    "<description>first</description><childSnapshotList><snapshot type=\""
    "VirtualMachineSnapshot\">snapshot-2</snapshot><name>b</name>"
    "</childSnapshotList></rootSnapshotList><rootSnapshotList><snapshot "
    "type=\"VirtualMachineSnapshot\">snapshot-3</snapshot><name>c</name>"
    "</rootSnapshotList></val></propSet>");

static struct server {
    pthread_mutex_t lock;
    struct rule rules[40];
    size_t n;
    struct VEC(char *) seen; /* requests: cookie, action, body */
} world = { .lock = PTHREAD_MUTEX_INITIALIZER };

static const struct rule usual[] = {
    { "RetrieveServiceContent", NULL, service_content, FOREVER },
    { "Login", NULL, "<returnval><key>52</key></returnval>", FOREVER },
    { "Logout", NULL, "", FOREVER },
    { "DestroyView", NULL, "", FOREVER },
    { "CreateContainerView", NULL,
      "<returnval type=\"ContainerView\">session[1]view-2</returnval>",
      FOREVER },
    { "RetrievePropertiesEx", "type=\"Task\"", TASK("success", ""), FOREVER },
    { "RetrievePropertiesEx", ">group-v3<",
      ONE("Folder", "group-v3",
          PROP("name", "vm") REF_PROP("parent", "Datacenter", "dc-2")),
      FOREVER },
    { "RetrievePropertiesEx", ">dc-2<",
      ONE("Datacenter", "dc-2",
          PROP("name", "DC%2f1") REF_PROP("parent", "Folder", "group-d1")),
      FOREVER },
    { "RetrievePropertiesEx", ">dvportgroup-12<",
      ONE("DistributedVirtualPortgroup", "dvportgroup-12",
          PROP("name", "prod%2fdmz") PROP("key", "dvportgroup-12")),
      FOREVER },
    { "RetrievePropertiesEx", "VirtualMachineSnapshot",
      ONE("VirtualMachineSnapshot", "snapshot-5", HARDWARE_PROP), FOREVER },
    { "RetrievePropertiesEx", "runtime.consolidationNeeded</pathSet></prop",
      ONE("VirtualMachine", "vm-57",
          PROP("runtime.consolidationNeeded", "false")),
      FOREVER },
    { "RetrievePropertiesEx", ">vm-57<", vm_answer, FOREVER },
};

static void
remember(const struct httpd_req *q)
{
    const char *cookie = httpd_header(q, "Cookie");
    const char *action = httpd_header(q, "SOAPAction");

    vec_push(&world.seen, xasprintf("%s|%s|%s", cookie ? cookie : "",
                                    action ? action : "", q->body));
}

static void
answer(const struct rule *rule, struct httpd_res *r)
{
    const char *inner = rule->inner;

    if (str_starts(inner, "raw:")) {
        str_add(&r->body, inner + 4);
        return;
    }
    if (str_starts(inner, "http:")) {
        r->status =
            (inner[5] - '0') * 100 + (inner[6] - '0') * 10 + (inner[7] - '0');
        return;
    }
    str_add(&r->body, "<?xml version=\"1.0\"?><soapenv:Envelope xmlns:soapenv="
                      "\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:xsd="
                      "\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi="
                      "\"http://www.w3.org/2001/XMLSchema-instance\" "
                      "xmlns:vim25=\"urn:vim25\"><soapenv:Body>");
    if (str_starts(inner, "fault:")) {
        r->status = 500;
        str_addf(&r->body, "<soapenv:Fault>%s</soapenv:Fault>", inner + 6);
    } else
        str_addf(&r->body, "<%sResponse xmlns=\"urn:vim25\">%s</%sResponse>",
                 rule->method, inner, rule->method);
    str_add(&r->body, "</soapenv:Body></soapenv:Envelope>");
    if (!strcmp(rule->method, "Login"))
        str_add(&r->headers, "Set-Cookie: vmware_soap_session=\"c0ffee\"; "
                             "Path=/; HttpOnly; Secure;\n");
}

static void
serve(void *ctx, const struct httpd_req *q, struct httpd_res *r)
{
    (void)ctx;
    pthread_mutex_lock(&world.lock);
    remember(q);
    r->status = 404;
    if (!strcmp(q->path, "/sdk/vimServiceVersions.xml")) {
        r->status = 200;
        str_add(&r->body, versions_xml);
    }
    for (size_t i = 0; *q->body && i < world.n; i++) {
        struct rule *rule = &world.rules[i];
        defer_free char *element = xasprintf("<%s xmlns", rule->method);

        if (!rule->times || !strstr(q->body, element) ||
            (rule->when && !strstr(q->body, rule->when)))
            continue;
        if (rule->times > 0)
            rule->times--;
        r->status = 200;
        answer(rule, r);
        break;
    }
    pthread_mutex_unlock(&world.lock);
}

int
seen(const char *text)
{
    int n = 0;

    pthread_mutex_lock(&world.lock);
    for (size_t i = 0; i < world.seen.n; i++)
        n += !!strstr(world.seen.p[i], text);
    pthread_mutex_unlock(&world.lock);
    return n;
}

void
setting_fini(struct setting *s)
{
    vs_close(s->vs);
    httpd_stop(s->d);
    secret_free(s->password);
    for (size_t i = 0; i < world.seen.n; i++)
        free(world.seen.p[i]);
    vec_fini(&world.seen);
}

void
start(struct setting *s, const struct rule *rules)
{
    struct httpd_opts o = { .handler = serve,
                            .cert_pem = cert_pem,
                            .key_pem = key_pem };
    struct err e = ERR_INIT;

    world.n = 0;
    for (; rules && rules->method; rules++)
        world.rules[world.n++] = *rules;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        world.rules[world.n++] = usual[i];
    s->d = httpd_start(&o, &e);
    assert_non_null(s->d);
    s->password = secret_new("pa<ss&word");
}

struct vs *
connect_with(struct setting *s, const volatile sig_atomic_t *stop,
             struct err *e)
{
    struct vs_opts o = { .host = "127.0.0.1",
                         .port = httpd_port(s->d),
                         .user = "DOM\\me",
                         .password = s->password,
                         .thumbprint = CERT_SHA256,
                         .operation_id = "mig-1",
                         .stop = stop };

    s->vs = vs_open(&o, e);
    if (s->vs)
        s->vs->haste = 100;
    return s->vs;
}

void
open_world(struct setting *s, const struct rule *rules)
{
    struct err e = ERR_INIT;

    start(s, rules);
    if (!connect_with(s, NULL, &e))
        fail_msg("%s", e.msg);
}

void
set_first_rule(const struct rule *rule)
{
    pthread_mutex_lock(&world.lock);
    world.rules[0] = *rule;
    pthread_mutex_unlock(&world.lock);
}
