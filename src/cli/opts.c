/* Options by tables; the help is made of the same tables. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define OPTS_MAX 32
#define HELP_OPT 1000

static void
help(const struct command *c)
{
    printf("usage: v2c-engine %s [options]%s%s\n%s\n\noptions:\n", c->name,
           c->rest ? " " : "", c->rest ? c->rest_help : "", c->summary);
    for (const struct opt *o = c->opts; o->name; o++) {
        char left[40];

        snprintf(left, sizeof left, "--%s%s%s", o->name,
                 o->kind == OPT_FLAG ? "" : " ",
                 o->kind == OPT_FLAG ? "" : o->value);
        printf("  %-24s %s\n", left, o->help);
    }
}

static int
set(const struct opt *o, const char *text, void *out)
{
    void *to = (char *)out + o->offset;
    struct err e;
    uint64_t n;

    switch (o->kind) {
    case OPT_FLAG: *(bool *)to = !text || strcmp(text, "false"); return 0;
    case OPT_TEXT: *(const char **)to = text; return 0;
    case OPT_TEXTS: vec_push((struct texts *)to, text); return 0;
    case OPT_INT:
        if (num_u64(text, 0, (uint64_t)o->max, &n, o->name, &e)) {
            fprintf(stderr, "v2c-engine: --%s\n", e.msg);
            return -1;
        }
        *(int64_t *)to = (int64_t)n;
        return 0;
    }
    return -1;
}

int
opts_parse(const struct command *c, int argc, char **argv, void *out)
{
    struct option longs[OPTS_MAX + 2] = { { 0 } };
    const struct opt *rest = NULL;
    int n = 0, i;

    for (; c->opts[n].name && n < OPTS_MAX; n++) {
        longs[n] =
            (struct option){ c->opts[n].name,
                             c->opts[n].kind == OPT_FLAG ? optional_argument
                                                         : required_argument,
                             NULL, n + 1 };
        if (c->rest && !strcmp(c->rest, c->opts[n].name))
            rest = &c->opts[n];
    }
    longs[n] = (struct option){ "help", no_argument, NULL, HELP_OPT };
    optind = 1;
    while ((i = getopt_long_only(argc, argv, "", longs, NULL)) != -1) {
        if (i == HELP_OPT) {
            help(c);
            return -1;
        }
        if (i == '?') {
            fprintf(stderr, "see v2c-engine %s --help\n", c->name);
            return CLI_USAGE;
        }
        if (set(&c->opts[i - 1], optarg, out))
            return CLI_USAGE;
    }
    for (; optind < argc; optind++) {
        if (!rest) {
            fprintf(stderr, "v2c-engine %s: '%s' is not expected here\n",
                    c->name, argv[optind]);
            return CLI_USAGE;
        }
        if (set(rest, argv[optind], out))
            return CLI_USAGE;
    }
    return CLI_OK;
}

static void
overview(FILE *to, const struct command *commands)
{
    fprintf(to, "usage: v2c-engine COMMAND [options]\n\n"
                "Moves virtual machines off VMware vSphere while they run.\n\n"
                "commands:\n");
    for (const struct command *c = commands; c->name; c++)
        if (!c->hidden)
            fprintf(to, "  %-10s %s\n", c->name, c->summary);
    fprintf(to, "\n'v2c-engine COMMAND --help' tells more\n");
}

int
cli_main(const struct command *commands, int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (!strcmp(verb, "help") || !strcmp(verb, "--help") ||
        !strcmp(verb, "-h")) {
        overview(stdout, commands);
        return CLI_OK;
    }
    if (!strcmp(verb, "--version") || !strcmp(verb, "version")) {
        printf("v2c-engine %s\n", V2C_VERSION);
        return CLI_OK;
    }
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(c->name, verb))
            return c->run(argc - 1, argv + 1);
    if (*verb)
        fprintf(stderr, "v2c-engine: unknown command '%s'\n", verb);
    overview(stderr, commands);
    return CLI_USAGE;
}
