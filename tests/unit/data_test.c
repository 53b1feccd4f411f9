/* data: JSON, YAML, XML and URLs; what is read and what is refused. */
#include "base/fs.h"
#include "data/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* json ----------------------------------------------------------------- */

static void
json_members_have_defaults(void **state)
{
    const char *text = "{\"s\":\"x\",\"n\":9007199254740993,\"f\":true}";
    struct err e = ERR_INIT;
    defer_json json_t *v = json_parse(text, strlen(text), "answer", &e);

    (void)state;
    assert_non_null(v);
    assert_string_equal(json_str(v, "s", "-"), "x");
    assert_string_equal(json_str(v, "n", "-"), "-");
    assert_true(json_num(v, "n", -1) == 9007199254740993);
    assert_int_equal(json_num(v, "absent", -1), -1);
    assert_true(json_flag(v, "f", false));
    assert_true(json_flag(v, "s", true));
    assert_string_equal(json_str(NULL, "s", "-"), "-");
}

static void
json_errors_name_the_place_but_quote_nothing(void **state)
{
    static const char *const bad[] = {
        "",  "{\"a\":1,\n\"a\":2}", "{\"a\":hunter}", "[1] x", "7",
        "[", "{\"a\":\"\xff\"}",
    };
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_null(json_parse(bad[i], strlen(bad[i]), "answer", &e));
        assert_int_equal(e.class, ERR_REMOTE);
        assert_true(str_starts(e.msg, "answer:"));
        assert_null(strstr(e.msg, "hunter"));
    }
}

static void
json_file_is_replaced_and_read(void **state)
{
    char path[] = "/tmp/data_test.XXXXXX";
    defer_close int fd = mkstemp(path);
    struct err e = ERR_INIT;
    defer_json json_t *v = json_pack("{s:i, s:s}", "z", 1, "a", "b");
    defer(str_fini) struct str text = STR_INIT;
    struct stat st;

    (void)state;
    assert_int_equal(json_replace(path, v, 0600, &e), 0);
    assert_int_equal(fs_read(path, 100, &text, &e), 0);
    assert_string_equal(str_text(&text), "{\n  \"z\": 1,\n  \"a\": \"b\"\n}\n");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    defer_json json_t *again = json_read(path, &e);
    assert_true(json_equal(v, again));
    assert_int_equal(fs_replace(path, "{\"cut", 5, 0600, &e), 0);
    assert_null(json_read(path, &e));
    assert_int_equal(e.class, ERR_DAMAGED);
    assert_true(str_starts(e.msg, path));
    assert_int_equal(unlink(path), 0);
    assert_null(json_read(path, &e));
    assert_int_equal(e.class, ERR_NOTFOUND);
}

static void
json_line_is_one_line(void **state)
{
    defer_json json_t *v = json_pack("{s:s}", "a", "b\nc");
    struct err e = ERR_INIT;
    char got[64] = "";
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(json_write_line(ends[1], v, "events", &e), 0);
    assert_int_equal(read(ends[0], got, sizeof got - 1), 13);
    assert_string_equal(got, "{\"a\":\"b\\nc\"}\n");
    close(ends[1]);
    assert_int_equal(json_write_line(ends[1], v, "events", &e), -1);
    assert_non_null(strstr(e.msg, "writing events"));
    close(ends[0]);
}

/* yaml ----------------------------------------------------------------- */

static struct yaml *
yaml_of(const char *text, struct err *e)
{
    return yaml_parse(text, strlen(text), "config.yaml", e);
}

static void
yaml_tree_remembers_lines(void **state)
{
    const char *text = "# a comment\n"
                       "vcenter:\n"
                       "  host: vc.example\n"
                       "  port: '443'\n"
                       "\n"
                       "disks:\n"
                       "  - one\n"
                       "  -\n"
                       "    two: |\n"
                       "      2\n"
                       "empty:\n";
    struct err e = ERR_INIT;
    defer(yaml_free_ptr) struct yaml *y = yaml_of(text, &e);
    const struct yaml *vc = yaml_get(y, "vcenter");
    const struct yaml *disks = yaml_get(y, "disks");

    (void)state;
    assert_non_null(y);
    assert_int_equal(y->n, 3);
    assert_int_equal(vc->line, 2);
    assert_int_equal(vc->kind, YAML_MAP);
    assert_string_equal(vc->key, "vcenter");
    assert_string_equal(yaml_get(vc, "host")->text, "vc.example");
    assert_false(yaml_get(vc, "host")->quoted);
    assert_int_equal(yaml_get(vc, "port")->line, 4);
    assert_true(yaml_get(vc, "port")->quoted);
    assert_int_equal(disks->kind, YAML_SEQ);
    assert_int_equal(disks->n, 2);
    assert_null(disks->kids[0]->key);
    assert_int_equal(disks->kids[0]->line, 7);
    assert_string_equal(yaml_get(disks->kids[1], "two")->text, "2\n");
    assert_true(yaml_is_null(yaml_get(y, "empty")));
    assert_null(yaml_get(y, "absent"));
    assert_null(yaml_get(disks, "one"));
    assert_null(yaml_get(NULL, "x"));
}

static void
yaml_null_is_unquoted(void **state)
{
    struct err e = ERR_INIT;
    defer(yaml_free_ptr) struct yaml *y =
        yaml_of("[~, null, 'null', '', !!str null, 0]", &e);
    static const bool expected[] = { true, true, false, false, false, false };

    (void)state;
    assert_non_null(y);
    assert_int_equal(y->n, COUNT(expected));
    for (size_t i = 0; i < y->n; i++)
        assert_int_equal(yaml_is_null(y->kids[i]), expected[i]);
}

static void
yaml_empty_file_is_an_empty_map(void **state)
{
    static const char *const texts[] = { "", "\n", "# only this\n" };
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        defer(yaml_free_ptr) struct yaml *y = yaml_of(texts[i], &e);

        assert_non_null(y);
        assert_int_equal(y->kind, YAML_MAP);
        assert_int_equal(y->n, 0);
    }
}

static void
yaml_errors_name_file_and_line(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        { "a: 1\nb: 2\na: 3\n", "config.yaml:3: 'a' was given in line 1" },
        { "a: {x: 1, x: 2}\n", "config.yaml:1: 'x' was given in line 1" },
        { "a: 1\nb: &x 2\n", "config.yaml:2: anchors are not accepted" },
        { "a: &x [1]\n", "config.yaml:1: anchors are not accepted" },
        { "a: 1\nb: *x\n", "config.yaml:2: aliases are not accepted" },
        { "a: !!python/name:os.system x\n", "config.yaml:1: this tag" },
        { "a: !own x\n", "config.yaml:1: this tag is not accepted" },
        { "a: !own {}\n", "config.yaml:1: this tag is not accepted" },
        { "? [a]\n: 1\n", "config.yaml:1: a key must be plain text" },
        { "a: 1\n'': 2\n", "config.yaml:2: a key is missing" },
        { "a: \"x\\0y\"\n", "config.yaml:1: a NUL character" },
        { "a: 1\n---\nb: 2\n", "config.yaml:2: a second document" },
        { "a: 1\n\tb: 2\n", "config.yaml:2: " },
        { "a: 1\nb: c: d\n", "config.yaml:2: mapping values" },
        { "a: 1\nb: \xff\n", "config.yaml:2: " },
        { "a: [1, 2\n", "config.yaml:2: " },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct err e = ERR_INIT;

        assert_null(yaml_of(rows[i].text, &e));
        assert_int_equal(e.class, ERR_USER);
        if (!str_starts(e.msg, rows[i].error))
            fail_msg("'%s' instead of '%s'", e.msg, rows[i].error);
    }
}

static void
yaml_is_bounded(void **state)
{
    defer(str_fini) struct str deep = STR_INIT, many = STR_INIT;
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 0; i <= YAML_DEPTH_MAX; i++)
        str_addc(&deep, '[');
    assert_null(yaml_of(str_text(&deep), &e));
    assert_non_null(strstr(e.msg, "config.yaml:1: nested deeper than"));
    for (int i = 0; i <= YAML_NODES_MAX; i++)
        str_add(&many, "- 1\n");
    assert_null(yaml_of(str_text(&many), &e));
    assert_non_null(strstr(e.msg, "more than"));
}

/* xml ------------------------------------------------------------------ */

static struct xml *
xml_of(const char *text, struct err *e)
{
    return xml_parse(text, strlen(text), e);
}

static void
xml_tree_has_local_names(void **state)
{
    const char *text =
        "<?xml version=\"1.0\"?>\n"
        "<s:Envelope xmlns:s=\"urn:s\" xmlns:i=\"http://www.w3.org/2001/"
        "XMLSchema-instance\" xmlns:v=\"urn:vim25\">\n"
        "  <s:Body><vm type=\"VirtualMachine\">vm-1</vm>"
        "<vm type=\"VirtualMachine\">vm-2</vm>\n"
        "    <val i:type=\"v:ArrayOfOption\" xsi=\"no\"><a> b&amp;<!-- x -->"
        "<![CDATA[<c>]]></a><none/></val>\n"
        "  </s:Body>\n"
        "</s:Envelope>\n";
    struct err e = ERR_INIT;
    defer(xml_free_ptr) struct xml *x = xml_of(text, &e);
    const struct xml *vm = xml_kid(xml_kid(x, "Body"), "vm");
    const struct xml *val = xml_kid(xml_kid(x, "Body"), "val");

    (void)state;
    assert_non_null(x);
    assert_string_equal(x->name, "Envelope");
    assert_string_equal(x->text, "");
    assert_string_equal(vm->text, "vm-1");
    assert_string_equal(vm->ref, "VirtualMachine");
    assert_null(vm->type);
    assert_string_equal(xml_next(vm)->text, "vm-2");
    assert_null(xml_next(xml_next(vm)));
    assert_string_equal(val->type, "ArrayOfOption");
    assert_null(val->ref);
    assert_string_equal(xml_text(x, "Body/val/a"), " b&<c>");
    assert_string_equal(xml_text(x, "Body/val/none"), "");
    assert_null(xml_text(x, "Body/va"));
    assert_null(xml_text(x, "Body/value/a"));
    assert_null(xml_kid(NULL, "x"));
    assert_null(xml_text(NULL, "x"));
}

static void
xml_refuses_what_is_not_plain(void **state)
{
    static const char *const bad[] = {
        "",
        "   ",
        "text",
        "<a>",
        "<a><b></a></b>",
        "<a/><b/>",
        "<a>&undefined;</a>",
        "<x:a/>",
        "<a b='1' b='2'/>",
        "<a>\xff</a>",
        "<!DOCTYPE a><a/>",
        "<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
        "<!DOCTYPE a [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><a>&e;</a>",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct err e = ERR_INIT;

        if (xml_of(bad[i], &e))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(e.class, ERR_REMOTE);
        assert_true(str_starts(e.msg, "XML:"));
    }
}

static void
xml_cut_anywhere_is_an_error(void **state)
{
    const char *text = "<a><b c=\"d\">x</b>&lt;<e/></a>";

    (void)state;
    for (size_t n = 0; n < strlen(text); n++) {
        struct err e = ERR_INIT;
        defer_free char *cut = xstrndup(text, n);

        assert_null(xml_parse(cut, n, &e));
        assert_int_equal(e.class, ERR_REMOTE);
    }
}

static void
xml_is_bounded(void **state)
{
    defer(str_fini) struct str deep = STR_INIT, many = STR_INIT;
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 0; i <= XML_DEPTH_MAX; i++)
        str_add(&deep, "<a>");
    assert_null(xml_of(str_text(&deep), &e));
    assert_non_null(strstr(e.msg, "deeper than"));
    str_add(&many, "<a>");
    for (int i = 0; i < XML_NODES_MAX; i++)
        str_add(&many, "<b/>");
    str_add(&many, "</a>");
    assert_null(xml_of(str_text(&many), &e));
    assert_non_null(strstr(e.msg, "more than"));
}

/* url ------------------------------------------------------------------ */

static void
url_is_encoded_and_back(void **state)
{
    defer(str_fini) struct str s = STR_INIT;

    (void)state;
    url_encode(&s, "a-Z_0.~ /?&=+%\xc3\xbc");
    assert_string_equal(str_text(&s), "a-Z_0.~%20%2F%3F%26%3D%2B%25%C3%BC");
    url_decode(s.p);
    assert_string_equal(s.p, "a-Z_0.~ /?&=+%\xc3\xbc");
}

static void
url_decoding_leaves_what_is_no_code(void **state)
{
    char text[] = "a+b%2fc%2Fd%00e%zzf%4";

    (void)state;
    url_decode(text);
    assert_string_equal(text, "a+b/c/d%00e%zzf%4");
}

static void
url_host_and_port_are_split(void **state)
{
    static const struct {
        const char *text, *host;
        int port;
    } rows[] = {
        { "vc.example", "vc.example", 0 },
        { "vc.example:8443", "vc.example", 8443 },
        { "10.0.0.1:1", "10.0.0.1", 1 },
        { "[::1]", "::1", 0 },
        { "[fe80::1%eth0]:443", "fe80::1%eth0", 443 },
    };
    static const char *const bad[] = {
        "",    ":443",   "h:",   "h:0",   "h:65536",
        "h:x", "::1",    "[::1", "[]:1",  "[::1]x",
        "u@h", "h/path", "a b",  "h:1:2", "http://h",
    };
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        defer_free char *host = NULL;
        uint16_t port = 7;

        assert_int_equal(url_host_port(rows[i].text, &host, &port, &e), 0);
        assert_string_equal(host, rows[i].host);
        assert_int_equal(port, rows[i].port);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        char *host = NULL;
        uint16_t port = 7;

        if (!url_host_port(bad[i], &host, &port, &e))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(e.class, ERR_USER);
        assert_null(host);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_members_have_defaults),
        cmocka_unit_test(json_errors_name_the_place_but_quote_nothing),
        cmocka_unit_test(json_file_is_replaced_and_read),
        cmocka_unit_test(json_line_is_one_line),
        cmocka_unit_test(yaml_tree_remembers_lines),
        cmocka_unit_test(yaml_null_is_unquoted),
        cmocka_unit_test(yaml_empty_file_is_an_empty_map),
        cmocka_unit_test(yaml_errors_name_file_and_line),
        cmocka_unit_test(yaml_is_bounded),
        cmocka_unit_test(xml_tree_has_local_names),
        cmocka_unit_test(xml_refuses_what_is_not_plain),
        cmocka_unit_test(xml_cut_anywhere_is_an_error),
        cmocka_unit_test(xml_is_bounded),
        cmocka_unit_test(url_is_encoded_and_back),
        cmocka_unit_test(url_decoding_leaves_what_is_no_code),
        cmocka_unit_test(url_host_and_port_are_split),
    };

    return cmocka_run_group_tests_name("data", tests, NULL, NULL);
}
