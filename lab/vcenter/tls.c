/* Key and self-signed certificate of the lab. */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/fs.h"
#include "lab/vcenter/inside.h"

#define KEY_BITS 2048
#define YEARS    10

static void
fingerprint(gnutls_x509_crt_t crt, gnutls_digest_algorithm_t how,
            char out[VCENTER_PRINT_MAX])
{
    unsigned char sum[64];
    size_t n = sizeof sum;

    out[0] = '\0';
    if (gnutls_x509_crt_get_fingerprint(crt, how, sum, &n))
        return;
    for (size_t i = 0; i < n; i++)
        snprintf(out + 3 * i, VCENTER_PRINT_MAX - 3 * i, "%02X%s", sum[i],
                 i + 1 < n ? ":" : "");
}

static int
fill_certificate(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    static const unsigned char loopback[] = { 127, 0, 0, 1 };
    unsigned char serial[8] = { 0x11 };
    time_t now = time(NULL);
    unsigned char id[64];
    size_t id_len = sizeof id;
    int rc = 0;

    for (size_t i = 1; i < sizeof serial; i++)
        serial[i] = (unsigned char)(now >> (i % 4 * 8));
    rc |= gnutls_x509_crt_set_version(crt, 3);
    rc |= gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
    rc |= gnutls_x509_crt_set_activation_time(crt, now - 86400);
    rc |= gnutls_x509_crt_set_expiration_time(crt, now + YEARS * 365L * 86400);
    rc |= gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0,
                                        "localhost", 9);
    rc |= gnutls_x509_crt_set_subject_alt_name(
        crt, GNUTLS_SAN_DNSNAME, "localhost", 9, GNUTLS_FSAN_APPEND);
    rc |= gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS,
                                               loopback, sizeof loopback,
                                               GNUTLS_FSAN_APPEND);
    rc |= gnutls_x509_crt_set_basic_constraints(crt, 1, -1);
    rc |= gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE |
                                                 GNUTLS_KEY_KEY_ENCIPHERMENT |
                                                 GNUTLS_KEY_KEY_CERT_SIGN);
    rc |= gnutls_x509_crt_set_key(crt, key);
    if (!gnutls_x509_crt_get_key_id(crt, 0, id, &id_len))
        rc |= gnutls_x509_crt_set_subject_key_id(crt, id, id_len);
    rc |= gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    return rc;
}

static int
export_pem(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, struct str *cert,
           struct str *key_pem)
{
    gnutls_datum_t a = { NULL, 0 }, b = { NULL, 0 };
    int rc = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &a);

    if (!rc)
        rc = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &b);
    if (!rc) {
        str_addn(cert, a.data, a.size);
        str_addn(key_pem, b.data, b.size);
    }
    gnutls_free(a.data);
    gnutls_free(b.data);
    return rc;
}

int
tls_make(const char *dir, struct str *cert, struct str *key_pem,
         char sha1[VCENTER_PRINT_MAX], char sha256[VCENTER_PRINT_MAX],
         struct err *e)
{
    defer_free char *path = xasprintf("%s/ca.pem", dir);
    gnutls_x509_privkey_t key = NULL;
    gnutls_x509_crt_t crt = NULL;
    int rc = gnutls_x509_privkey_init(&key);

    if (!rc)
        rc = gnutls_x509_crt_init(&crt);
    if (!rc)
        rc = gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, KEY_BITS, 0);
    if (!rc)
        rc = fill_certificate(crt, key);
    if (!rc)
        rc = export_pem(crt, key, cert, key_pem);
    if (!rc) {
        fingerprint(crt, GNUTLS_DIG_SHA1, sha1);
        fingerprint(crt, GNUTLS_DIG_SHA256, sha256);
    }
    if (crt)
        gnutls_x509_crt_deinit(crt);
    if (key)
        gnutls_x509_privkey_deinit(key);
    if (rc)
        return err_set(e, ERR_IO, "making a certificate: %s",
                       gnutls_strerror(rc));
    return fs_replace(path, cert->p, cert->n, 0644, e);
}
