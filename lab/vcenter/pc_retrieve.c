/* RetrieveProperties, with pages and without. */
#include <stdio.h>
#include <string.h>

#include "lab/vcenter/inside.h"

#define PAGE_MAX 1000

static char *
object_content(const struct found *f, const char *tag)
{
    struct val *o = val_object("ObjectContent");
    struct str out = STR_INIT;

    val_link(o, "obj", f->obj.type, f->obj.id);
    if (f->props->kids)
        val_put(o, "propSet", val_copy(f->props));
    val_xml(&out, tag, o, "ObjectContent");
    val_free(o);
    return str_take(&out);
}

static int
collect_all(struct call *c, struct founds *out)
{
    for (const struct xml *s = xml_kid(c->q, "specSet"); s; s = xml_next(s))
        if (pc_collect(c, s, out))
            return -1;
    return 0;
}

int
m_retrieve(struct call *c)
{
    struct founds f = { 0 };
    int rc = collect_all(c, &f);

    for (size_t i = 0; i < f.n && !rc; i++) {
        defer_free char *xml = object_content(&f.p[i], "returnval");

        str_add(&c->out, xml);
    }
    founds_fini(&f);
    return rc;
}

static void
forget_pages(struct session *s, struct pages *p)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->pages.n; i++)
        if (s->pages.p[i] != p)
            s->pages.p[kept++] = s->pages.p[i];
    s->pages.n = kept;
    pages_free(p);
}

/* Writes the next page; the last one ends the token. */
static void
write_page(struct call *c, struct pages *p)
{
    size_t end = p->next + p->size;
    bool last = end >= p->objects.n;

    str_add(&c->out, "<returnval>");
    if (!last)
        str_addf(&c->out, "<token>%s</token>", p->token);
    for (; p->next < p->objects.n && p->next < end; p->next++)
        str_add(&c->out, p->objects.p[p->next]);
    str_add(&c->out, "</returnval>");
    if (last)
        forget_pages(c->s, p);
}

int
m_retrieve_ex(struct call *c)
{
    const char *max = arg(c, "options/maxObjects");
    struct founds f = { 0 };
    struct err e = ERR_INIT;
    struct pages *p;
    uint64_t size = PAGE_MAX;

    if (max && num_u64(max, 1, PAGE_MAX, &size, "maxObjects", &e)) {
        if (max[0] == '-' || !strcmp(max, "0"))
            return fault_argument(c, "options.maxObjects");
        size = PAGE_MAX;
    }
    if (c->s->pages.n >= TOKENS_MAX)
        forget_pages(c->s, c->s->pages.p[0]);
    if (collect_all(c, &f)) {
        founds_fini(&f);
        return -1;
    }
    p = xcalloc(1, sizeof *p);
    snprintf(p->token, sizeof p->token, "%u", ++c->s->next_id);
    snprintf(p->collector, sizeof p->collector, "%s", c->self.id);
    p->size = (size_t)size;
    for (size_t i = 0; i < f.n; i++)
        vec_push(&p->objects, object_content(&f.p[i], "objects"));
    founds_fini(&f);
    if (!p->objects.n) {
        pages_free(p);
        return 0;
    }
    vec_push(&c->s->pages, p);
    write_page(c, p);
    return 0;
}

static struct pages *
pages_of(struct call *c)
{
    for (size_t i = 0; i < c->s->pages.n; i++) {
        struct pages *p = c->s->pages.p[i];

        if (!strcmp(p->token, arg(c, "token")) &&
            !strcmp(p->collector, c->self.id))
            return p;
    }
    fault_argument(c, "token");
    return NULL;
}

int
m_continue(struct call *c)
{
    struct pages *p = pages_of(c);

    if (!p)
        return -1;
    write_page(c, p);
    return 0;
}

int
m_cancel_retrieve(struct call *c)
{
    struct pages *p = pages_of(c);

    if (!p)
        return -1;
    forget_pages(c->s, p);
    return 0;
}
