/* A client with mbedTLS: sends one GET for PATH, and prints what comes until close_notify.
 *
 *     mbedtls PORT HOST CA.pem PATH
 *
 * tests/it/records.rs compiles it with the library's source, with receive buffers of 4 KiB. Exits with 1 and the library's number if the
 * handshake fails, and with 2 if a read does. */
#include <stdio.h>
#include <string.h>

#include "mbedtls/ctr_drbg.h"
#include "mbedtls/entropy.h"
#include "mbedtls/net_sockets.h"
#include "mbedtls/ssl.h"
#include "mbedtls/x509_crt.h"

static int failed(const char *what, int code, int status)
{
    fprintf(stderr, "%s: -0x%04x\n", what, (unsigned)-code);
    return status;
}

int main(int argc, char **argv)
{
    static unsigned char buffer[16384];
    char request[512];
    mbedtls_net_context net;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_x509_crt ca;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    int length, code;

    if (argc != 5)
        return 3;
    mbedtls_net_init(&net);
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&config);
    mbedtls_x509_crt_init(&ca);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    if ((code = mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0)) != 0 ||
        (code = mbedtls_x509_crt_parse_file(&ca, argv[3])) != 0 ||
        (code = mbedtls_net_connect(&net, "127.0.0.1", argv[1], MBEDTLS_NET_PROTO_TCP)) != 0 ||
        (code = mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                            MBEDTLS_SSL_PRESET_DEFAULT)) != 0)
        return failed("start", code, 3);
    mbedtls_ssl_conf_ca_chain(&config, &ca, NULL);
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    if ((code = mbedtls_ssl_setup(&ssl, &config)) != 0 || (code = mbedtls_ssl_set_hostname(&ssl, argv[2])) != 0)
        return failed("setup", code, 3);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    if ((code = mbedtls_ssl_handshake(&ssl)) != 0)
        return failed("handshake", code, 1);
    length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", argv[4], argv[2]);
    if ((code = mbedtls_ssl_write(&ssl, (unsigned char *)request, (size_t)length)) != length)
        return failed("write", code, 3);
    while ((code = mbedtls_ssl_read(&ssl, buffer, sizeof buffer)) > 0)
        fwrite(buffer, 1, (size_t)code, stdout);
    if (code != 0 && code != MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        return failed("read", code, 2);
    return fflush(stdout) == 0 ? 0 : 3;
}
