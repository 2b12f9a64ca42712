/* A client with BearSSL and receive buffers for records of BYTES of plaintext: sends one GET for PATH, and prints what comes until
 * close_notify.
 *
 *     bearssl PORT HOST CA.pem PATH BYTES
 *
 * tests/it/records.rs compiles it. Exits with 1 and the library's number if the handshake or a read fails. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bearssl.h>

/* What a record adds to its plaintext at most: BearSSL counts 325 bytes for a full one. */
#define RECORD_EXTRA 325

struct bytes {
    unsigned char data[8192];
    size_t length;
};

static void append(void *to, const void *data, size_t length)
{
    struct bytes *bytes = to;
    if (length > sizeof bytes->data - bytes->length)
        exit(3);
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}

/* The first object of a PEM file. */
static void read_pem(const char *path, struct bytes *der)
{
    char text[8192];
    FILE *file = fopen(path, "r");
    size_t length, done = 0;
    br_pem_decoder_context pem;
    if (file == NULL)
        exit(3);
    length = fread(text, 1, sizeof text, file);
    fclose(file);
    br_pem_decoder_init(&pem);
    while (done < length) {
        done += br_pem_decoder_push(&pem, text + done, length - done);
        switch (br_pem_decoder_event(&pem)) {
        case BR_PEM_BEGIN_OBJ:
            br_pem_decoder_setdest(&pem, append, der);
            break;
        case BR_PEM_END_OBJ:
            return;
        case BR_PEM_ERROR:
            exit(3);
        }
    }
}

static int low_read(void *context, unsigned char *data, size_t length)
{
    ssize_t count = read(*(int *)context, data, length);
    return count > 0 ? (int)count : -1;
}

static int low_write(void *context, const unsigned char *data, size_t length)
{
    ssize_t count = send(*(int *)context, data, length, MSG_NOSIGNAL);
    return count > 0 ? (int)count : -1;
}

int main(int argc, char **argv)
{
    static br_ssl_client_context client;
    static br_x509_minimal_context x509;
    static br_x509_decoder_context decoder;
    static br_sslio_context io;
    static unsigned char in[16384 + RECORD_EXTRA], out[1024 + RECORD_EXTRA], buffer[16384];
    static struct bytes der, name;
    char request[512];
    br_x509_trust_anchor anchor;
    br_x509_pkey *key;
    struct sockaddr_in address = { .sin_family = AF_INET };
    int socket_fd, count;
    size_t bytes;

    if (argc != 6 || (bytes = strtoul(argv[5], NULL, 10)) > 16384)
        return 3;
    read_pem(argv[3], &der);
    br_x509_decoder_init(&decoder, append, &name);
    br_x509_decoder_push(&decoder, der.data, der.length);
    if ((key = br_x509_decoder_get_pkey(&decoder)) == NULL)
        return 3;
    anchor = (br_x509_trust_anchor){ { name.data, name.length }, BR_X509_TA_CA, *key };

    br_ssl_client_init_full(&client, &x509, &anchor, 1);
    br_ssl_engine_set_buffers_bidi(&client.eng, in, bytes + RECORD_EXTRA, out, sizeof out);
    br_ssl_client_reset(&client, argv[2], 0);
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socket_fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(socket_fd, (struct sockaddr *)&address, sizeof address) != 0)
        return 3;
    br_sslio_init(&io, &client.eng, low_read, &socket_fd, low_write, &socket_fd);
    count = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", argv[4], argv[2]);
    br_sslio_write_all(&io, request, (size_t)count);
    br_sslio_flush(&io);
    while ((count = br_sslio_read(&io, buffer, sizeof buffer)) > 0)
        fwrite(buffer, 1, (size_t)count, stdout);
    if (br_ssl_engine_last_error(&client.eng) != BR_ERR_OK) {
        fprintf(stderr, "error %d\n", br_ssl_engine_last_error(&client.eng));
        return 1;
    }
    return fflush(stdout) == 0 ? 0 : 3;
}
