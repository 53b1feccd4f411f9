/* Secrets: values that no log, error or document may show. */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

struct secret;

/* Copies text and guards it: from now on secret_redact() stars it wherever
 * it turns up.  NULL for NULL.  Freed, wiped and unguarded by secret_free. */
struct secret *secret_new(const char *text);
void secret_free(struct secret *s);
/* The bare text, for the one call that must send it.  "" for NULL. */
const char *secret_reveal(const struct secret *s);
/* Overwrites each guarded secret within text by stars, in place. */
void secret_redact(char *text);

#endif
