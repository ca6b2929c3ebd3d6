/* The floor: one thread, epoll, one send() of a ready frame per message and socket, nothing else. What comes from a
 * socket opened on /pub goes to every socket opened on /sub. A socket whose buffer is full is dropped. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS 65536
#define IN_MAX 65536

static uint8_t *in[FDS];
static int filled[FDS], kind[FDS]; /* 0: handshake, 1: listener, 2: publisher */
static int listeners[FDS], count, place[FDS];

static uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const uint8_t *data, size_t size, uint8_t out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t padded[256] = {0};
    size_t whole = ((size + 8) / 64 + 1) * 64;
    memcpy(padded, data, size);
    padded[size] = 0x80;
    for (int i = 0; i < 8; i++) padded[whole - 1 - i] = (uint8_t)((uint64_t)size * 8 >> (8 * i));
    for (size_t at = 0; at < whole; at += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)padded[at + 4 * i] << 24 | padded[at + 4 * i + 1] << 16 | padded[at + 4 * i + 2] << 8 |
                   padded[at + 4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 ? b ^ c ^ d : i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t t = rol(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rol(b, 30), b = a, a = t;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *data, int size, char *out) {
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < size; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16 | (i + 1 < size ? data[i + 1] << 8 : 0) | (i + 2 < size ? data[i + 2] : 0);
        *out++ = set[v >> 18];
        *out++ = set[v >> 12 & 63];
        *out++ = i + 1 < size ? set[v >> 6 & 63] : '=';
        *out++ = i + 2 < size ? set[v & 63] : '=';
    }
    *out = 0;
}

static void drop(int fd) {
    if (kind[fd] == 1) {
        listeners[place[fd]] = listeners[--count];
        place[listeners[place[fd]]] = place[fd];
    }
    kind[fd] = filled[fd] = 0;
    free(in[fd]);
    in[fd] = NULL;
    close(fd);
}

static void handshake(int fd) {
    char *text = (char *)in[fd], joined[128], key[32], answer[256];
    uint8_t digest[20];
    text[filled[fd]] = 0;
    char *end = strstr(text, "\r\n\r\n"), *found = strcasestr(text, "sec-websocket-key:");
    if (!end) return;
    if (!found) { drop(fd); return; }
    found += 18;
    while (*found == ' ') found++;
    snprintf(joined, sizeof joined, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", found);
    sha1((uint8_t *)joined, strlen(joined), digest);
    base64(digest, 20, key);
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n", key);
    kind[fd] = strncmp(text, "GET /pub", 8) ? 1 : 2;
    if (kind[fd] == 1) { place[fd] = count; listeners[count++] = fd; }
    filled[fd] = 0;
    if (send(fd, answer, (size_t)size, MSG_NOSIGNAL) != size) drop(fd);
}

static void publish(const uint8_t *payload, int size) {
    uint8_t ready[IN_MAX + 8];
    int at = 2;
    ready[0] = 0x81;
    if (size < 126) ready[1] = (uint8_t)size;
    else ready[1] = 126, ready[2] = (uint8_t)(size >> 8), ready[3] = (uint8_t)size, at = 4;
    memcpy(ready + at, payload, (size_t)size);
    for (int i = count - 1; i >= 0; i--)
        if (send(listeners[i], ready, (size_t)(at + size), MSG_NOSIGNAL | MSG_DONTWAIT) != at + size) drop(listeners[i]);
}

static void frames(int fd) {
    int at = 0;
    while (filled[fd] - at >= 6) {
        uint8_t *head = in[fd] + at, plain[IN_MAX];
        int size = head[1] & 127, offset = 2, opcode = head[0] & 15;
        if (size == 126) size = head[2] << 8 | head[3], offset = 4;
        if (size == 127 || opcode == 8) { drop(fd); return; }
        if (filled[fd] - at < offset + 4 + size) break;
        for (int i = 0; i < size; i++) plain[i] = head[offset + 4 + i] ^ head[offset + (i & 3)];
        at += offset + 4 + size;
        if (kind[fd] == 2 && opcode == 1) publish(plain, size);
    }
    memmove(in[fd], in[fd] + at, (size_t)(filled[fd] - at));
    filled[fd] -= at;
}

int main(int argc, char **argv) {
    int one = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (argc < 2) return 2;
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 2048)) { perror("listen"); return 1; }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = server}, ready[512];
    epoll_ctl(poll, EPOLL_CTL_ADD, server, &event);
    for (;;) {
        int found = epoll_wait(poll, ready, 512, -1);
        for (int i = 0; i < found; i++) {
            int fd = ready[i].data.fd;
            if (fd == server) {
                int made;
                while ((made = accept4(server, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (made >= FDS || !(in[made] = malloc(IN_MAX))) { close(made); continue; }
                    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = made};
                    epoll_ctl(poll, EPOLL_CTL_ADD, made, &wanted);
                }
                continue;
            }
            if (!in[fd]) continue;
            ssize_t size = recv(fd, in[fd] + filled[fd], (size_t)(IN_MAX - 1 - filled[fd]), MSG_DONTWAIT);
            if (size <= 0) { if (size == 0 || (errno != EAGAIN && errno != EINTR)) drop(fd); continue; }
            filled[fd] += (int)size;
            if (kind[fd]) frames(fd);
            else handshake(fd);
        }
    }
}
