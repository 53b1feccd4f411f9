/* The client's check of the server's certificate: by CA or by thumbprint. */
#ifndef NET_CERT_H
#define NET_CERT_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define SHA1_LEN   20
#define SHA256_LEN 32
#define PRINT_TEXT (SHA256_LEN * 3) /* "AB:" each, the last ':' a NUL */

struct cert {
    unsigned char pin[SHA256_LEN];
    size_t pin_len; /* 0: no pin, so the CA decides */
    bool insecure;  /* nobody decides */
    /* of the leaf last seen; "" if none */
    char sha1[PRINT_TEXT], sha256[PRINT_TEXT];
    bool refused; /* by us, not for its host name; cleared by the owner */
    int verify;   /* X509_V_... of a check by CA */
};

/* Hex pairs, each may be followed by a colon. */
int cert_parse_pin(struct cert *c, const char *text, struct err *e);
/* CURLOPT_SSL_CTX_FUNCTION; its data is the struct cert. */
CURLcode cert_on_ssl_ctx(CURL *curl, void *ssl_ctx, void *cert);
/* ERR_AUTH that tells what was seen, and what to give. */
int cert_fail(const struct cert *c, const char *place, struct err *e);

#endif
