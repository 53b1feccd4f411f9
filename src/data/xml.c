/* XML: a bounded element tree with local names. */
#include "data/data.h"

#include <libxml/parser.h>
#include <libxml/xmlreader.h>
#include <pthread.h>
#include <string.h>

#define XSI_URI "http://www.w3.org/2001/XMLSchema-instance"

/* One open element: its own text so far and where its next child goes. */
struct level {
    struct xml *node;
    struct xml **tail;
    struct str text;
};

struct builder {
    struct level open[XML_DEPTH_MAX];
    size_t depth, nodes;
    struct xml *root;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
reader_free(xmlTextReaderPtr *r)
{
    if (*r)
        xmlFreeTextReader(*r);
}

static void
builder_fini(struct builder *b)
{
    for (size_t i = 0; i < XML_DEPTH_MAX; i++)
        str_fini(&b->open[i].text);
    xml_free(b->root);
}

void
xml_free(struct xml *x)
{
    while (x) {
        struct xml *next = x->next;

        xml_free(x->kids); /* as deep as XML_DEPTH_MAX */
        free(x->name);
        free(x->text);
        free(x->type);
        free(x->ref);
        free(x);
        x = next;
    }
}

static char *
attribute(xmlTextReaderPtr r, const char *name, const char *uri)
{
    xmlChar *v = xmlTextReaderGetAttributeNs(r, BAD_CAST name, BAD_CAST uri);
    char *copy = v ? xstrdup((char *)v) : NULL;

    xmlFree(v);
    return copy;
}

static char *
without_prefix(char *qname)
{
    char *colon = qname ? strchr(qname, ':') : NULL;

    if (colon)
        memmove(qname, colon + 1, strlen(colon + 1) + 1);
    return qname;
}

static bool
is_blank(const char *s)
{
    return !s[strspn(s, " \t\r\n")];
}

static void
close_element(struct builder *b)
{
    struct level *l = &b->open[--b->depth];

    if (l->node->kids && is_blank(str_text(&l->text)))
        l->node->text = xstrdup("");
    else
        l->node->text = xstrdup(str_text(&l->text));
    l->text.n = 0;
    if (l->text.p)
        *l->text.p = '\0';
}

static int
open_element(struct builder *b, xmlTextReaderPtr r, struct err *e)
{
    struct level *l;
    struct xml *x;

    if (b->depth == XML_DEPTH_MAX)
        return err_set(e, ERR_REMOTE, "XML: deeper than %d elements",
                       XML_DEPTH_MAX);
    if (++b->nodes > XML_NODES_MAX)
        return err_set(e, ERR_REMOTE, "XML: more than %d elements",
                       XML_NODES_MAX);
    x = xcalloc(1, sizeof *x);
    if (b->depth) {
        *b->open[b->depth - 1].tail = x;
        b->open[b->depth - 1].tail = &x->next;
    } else {
        b->root = x;
    }
    x->name = xstrdup((const char *)xmlTextReaderConstLocalName(r));
    x->type = without_prefix(attribute(r, "type", XSI_URI));
    x->ref = attribute(r, "type", NULL);
    l = &b->open[b->depth++];
    l->node = x;
    l->tail = &x->kids;
    if (xmlTextReaderIsEmptyElement(r) == 1)
        close_element(b);
    return 0;
}

static int
take_node(struct builder *b, xmlTextReaderPtr r, struct err *e)
{
    switch (xmlTextReaderNodeType(r)) {
    case XML_READER_TYPE_ELEMENT: return open_element(b, r, e);
    case XML_READER_TYPE_END_ELEMENT: close_element(b); return 0;
    case XML_READER_TYPE_TEXT:
    case XML_READER_TYPE_CDATA:
    case XML_READER_TYPE_WHITESPACE:
    case XML_READER_TYPE_SIGNIFICANT_WHITESPACE:
        if (b->depth)
            str_add(&b->open[b->depth - 1].text,
                    (const char *)xmlTextReaderConstValue(r));
        return 0;
    case XML_READER_TYPE_COMMENT:
    case XML_READER_TYPE_PROCESSING_INSTRUCTION:
    case XML_READER_TYPE_XML_DECLARATION: return 0;
    case XML_READER_TYPE_DOCUMENT_TYPE:
        return err_set(e, ERR_REMOTE, "XML: a DOCTYPE is not accepted");
    default:
        return err_set(e, ERR_REMOTE, "XML:%d: an unexpected kind of node",
                       xmlTextReaderGetParserLineNumber(r));
    }
}

/* Said by the parser while it reads; the first word counts. */
static void
on_error(void *ctx, xmlErrorPtr error)
{
    struct err *e = ctx;

    if (error->level >= XML_ERR_ERROR && error->message && e->class == ERR_NONE)
        err_set(e, ERR_REMOTE, "XML:%d: %.*s", error->line,
                (int)strcspn(error->message, "\n"), error->message);
}

struct xml *
xml_parse(const char *text, size_t n, struct err *e)
{
    defer(builder_fini) struct builder b = { 0 };
    struct err said = ERR_INIT;
    int rc;

    pthread_once(&once, xmlInitParser);
    if (n > XML_BYTES_MAX) {
        err_set(e, ERR_REMOTE, "XML: longer than %u bytes", XML_BYTES_MAX);
        return NULL;
    }
    defer(reader_free) xmlTextReaderPtr r =
        xmlReaderForMemory(text, (int)n, NULL, NULL, XML_PARSE_NONET);
    if (!r) {
        err_set(e, ERR_REMOTE, "XML: there is nothing to read");
        return NULL;
    }
    xmlTextReaderSetStructuredErrorHandler(r, on_error, &said);
    while ((rc = xmlTextReaderRead(r)) == 1 && said.class == ERR_NONE)
        if (take_node(&b, r, e))
            return NULL;
    if (said.class != ERR_NONE) {
        *e = said;
        return NULL;
    }
    if (rc || !b.root || b.depth) {
        err_set(e, ERR_REMOTE, "XML: it ends too early");
        return NULL;
    }
    return take(b.root);
}

static const struct xml *
find(const struct xml *x, const char *name, size_t n)
{
    for (; x; x = x->next)
        if (!strncmp(x->name, name, n) && !x->name[n])
            return x;
    return NULL;
}

const struct xml *
xml_kid(const struct xml *x, const char *name)
{
    return x ? find(x->kids, name, strlen(name)) : NULL;
}

const struct xml *
xml_next(const struct xml *x)
{
    return x ? find(x->next, x->name, strlen(x->name)) : NULL;
}

const char *
xml_text(const struct xml *x, const char *path)
{
    while (x && *path) {
        size_t n = strcspn(path, "/");

        x = find(x->kids, path, n);
        path += n + (path[n] == '/');
    }
    return x ? x->text : NULL;
}
