/* The client's check of the server's certificate: by CA or by thumbprint. */
#include "net/cert.h"
#include "base/str.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

static void
print_text(const unsigned char *print, size_t n, char out[PRINT_TEXT])
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + i * 3, 4, "%02X%s", print[i], i + 1 < n ? ":" : "");
}

/* Hex pairs, each may be followed by a colon. */
int
cert_parse_pin(struct cert *c, const char *text, struct err *e)
{
    const char *p = text;

    while (*p && c->pin_len < SHA256_LEN) {
        int high = hex_digit(p[0]), low = high < 0 ? -1 : hex_digit(p[1]);

        if (low < 0)
            break;
        c->pin[c->pin_len++] = (unsigned char)(high * 16 + low);
        p += 2;
        p += *p == ':' && p[1];
    }
    if (*p || (c->pin_len != SHA1_LEN && c->pin_len != SHA256_LEN))
        return err_set(e, ERR_USER,
                       "'%.100s' is no thumbprint; write the 20 bytes of a "
                       "SHA-1 or the 32 of a SHA-256 as AB:CD..",
                       text);
    return 0;
}

/* Every handshake comes here, whatever the mode: sessions are not resumed. */
static int
check_certificate(X509_STORE_CTX *x, void *ctx)
{
    unsigned char sha1[EVP_MAX_MD_SIZE], sha256[EVP_MAX_MD_SIZE];
    X509 *leaf = X509_STORE_CTX_get0_cert(x);
    struct cert *c = ctx;
    unsigned int n;
    bool good;

    c->refused = true;
    if (!leaf || !X509_digest(leaf, EVP_sha1(), sha1, &n) ||
        !X509_digest(leaf, EVP_sha256(), sha256, &n))
        return 0;
    print_text(sha1, SHA1_LEN, c->sha1);
    print_text(sha256, SHA256_LEN, c->sha256);
    if (!c->insecure && !c->pin_len) {
        good = X509_verify_cert(x) == 1;
        c->verify = X509_STORE_CTX_get_error(x);
        c->refused = !good;
        return good;
    }
    good = c->insecure ||
           !memcmp(c->pin, c->pin_len == SHA1_LEN ? sha1 : sha256, c->pin_len);
    X509_STORE_CTX_set_error(x, good ? X509_V_OK
                                     : X509_V_ERR_APPLICATION_VERIFICATION);
    c->refused = !good;
    return good;
}

CURLcode
cert_on_ssl_ctx(CURL *curl, void *ssl_ctx, void *cert)
{
    (void)curl;
    SSL_CTX_set_verify(ssl_ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(ssl_ctx, check_certificate, cert);
    return CURLE_OK;
}

int
cert_fail(const struct cert *c, const char *place, struct err *e)
{
    char want[PRINT_TEXT] = "";
    const char *why = c->refused ? X509_verify_cert_error_string(c->verify)
                                 : "it is for another host name";

    if (!c->pin_len)
        return err_set(e, ERR_AUTH,
                       "%s: the certificate is not trusted (%s); give a CA "
                       "file or, once checked, its thumbprint %s",
                       place, why, c->sha256);
    print_text(c->pin, c->pin_len, want);
    return err_set(e, ERR_AUTH, "%s: the certificate is %s, expected %s", place,
                   c->pin_len == SHA1_LEN ? c->sha1 : c->sha256, want);
}
