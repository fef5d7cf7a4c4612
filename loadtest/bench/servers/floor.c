/* The floor: what the kernel takes to send one buffer to N sockets, with as little as possible around it.
 *
 * floor PORT LINE_SOCKET: accepts WebSocket clients on 127.0.0.1:PORT (handshake of RFC 6455 §4.2.2, nothing else) and
 * one publisher on the unix socket LINE_SOCKET. Every line from the publisher becomes one text frame; the frames of all
 * lines that arrive in one read are joined, and the buffer goes to every client with one send(). Ends with its input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_FD = 1 << 20, BUFFER = 1 << 16 };
enum kind { FREE, INPUT, LISTENER, LINE_LISTENER, LINES, HANDSHAKE, OPEN };
static unsigned char kinds[MAX_FD];
static int clients[MAX_FD], places[MAX_FD], client_count;

static void die(const char *what) { perror(what); exit(1); }

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const char *text, size_t size, unsigned char out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    unsigned char data[128] = {0};
    size_t blocks = (size + 8) / 64 + 1;
    memcpy(data, text, size); /* a key and the GUID: 60 bytes, two blocks */
    data[size] = 0x80;
    for (int i = 0; i < 8; i++) data[blocks * 64 - 1 - i] = (unsigned char)(size * 8 >> (8 * i));
    for (size_t block = 0; block < blocks; block++) {
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = data + block * 64 + i * 4;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? ((b & c) | (~b & d)) + 0x5A827999 : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                       : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC : (b ^ c ^ d) + 0xCA62C1D6;
            uint32_t t = rotate(a, 5) + f + e + w[i];
            e = d; d = c; c = rotate(b, 30); b = a; a = t;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const unsigned char *in, int size, char *out) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < size; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < size ? in[i + 1] << 8 : 0) | (i + 2 < size ? in[i + 2] : 0);
        *out++ = letters[v >> 18 & 63];
        *out++ = letters[v >> 12 & 63];
        *out++ = i + 1 < size ? letters[v >> 6 & 63] : '=';
        *out++ = i + 2 < size ? letters[v & 63] : '=';
    }
    *out = 0;
}

static void forget(int fd) {
    if (kinds[fd] == OPEN) {
        int last = clients[--client_count];
        clients[places[fd]] = last;
        places[last] = places[fd];
    }
    kinds[fd] = FREE;
    close(fd);
}

/* The request is expected in one segment, as the benchmark's client sends it. */
static void handshake(int fd) {
    char request[4096], answer[256], joined[64], accept[32];
    unsigned char digest[20];
    ssize_t size = read(fd, request, sizeof request - 1);
    if (size <= 0) { forget(fd); return; }
    request[size] = 0;
    char *key = strcasestr(request, "sec-websocket-key: ");
    if (!key || !strstr(request, "\r\n\r\n")) { forget(fd); return; }
    int length = snprintf(joined, sizeof joined, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
    sha1(joined, (size_t)length, digest);
    base64(digest, 20, accept);
    length = snprintf(answer, sizeof answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    if (send(fd, answer, (size_t)length, MSG_NOSIGNAL) != length) { forget(fd); return; }
    kinds[fd] = OPEN;
    places[fd] = client_count;
    clients[client_count++] = fd;
}

static void broadcast(const char *frames, size_t size) {
    for (int i = client_count - 1; i >= 0; i--) {
        const char *from = frames;
        size_t left = size;
        while (left) {
            ssize_t sent = send(clients[i], from, left, MSG_NOSIGNAL);
            if (sent > 0) { from += sent; left -= (size_t)sent; continue; }
            if (errno != EAGAIN) { forget(clients[i]); break; }
            struct pollfd writable = {clients[i], POLLOUT, 0};
            poll(&writable, 1, -1);
        }
    }
}

static void publish(int fd) {
    static char lines[BUFFER], frames[2 * BUFFER];
    static size_t filled;
    ssize_t size = read(fd, lines + filled, sizeof lines - filled);
    if (size <= 0) { filled = 0; forget(fd); return; }
    filled += (size_t)size;
    size_t start = 0, out = 0;
    for (char *end; (end = memchr(lines + start, '\n', filled - start)); start = (size_t)(end - lines) + 1) {
        size_t length = (size_t)(end - lines) - start;
        frames[out++] = (char)0x81;
        if (length < 126) frames[out++] = (char)length;
        else { frames[out++] = 126; frames[out++] = (char)(length >> 8); frames[out++] = (char)length; }
        memcpy(frames + out, lines + start, length);
        out += length;
    }
    memmove(lines, lines + start, filled -= start);
    broadcast(frames, out);
}

static void watch(int epoll, int fd, enum kind kind) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd >= MAX_FD || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    kinds[fd] = (unsigned char)kind;
}

static void accept_all(int epoll, int listener, enum kind kind) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (kind == HANDSHAKE) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(epoll, fd, kind);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: floor PORT LINE_SOCKET\n"); return 2; }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int on = 1, epoll = epoll_create1(0);
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), lines = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(path.sun_path, sizeof path.sun_path, "%s", argv[2]);
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(tcp, (struct sockaddr *)&address, sizeof address) || listen(tcp, 4096)) die("port");
    if (bind(lines, (struct sockaddr *)&path, sizeof path) || listen(lines, 1)) die("line socket");
    watch(epoll, tcp, LISTENER);
    watch(epoll, lines, LINE_LISTENER);
    watch(epoll, STDIN_FILENO, INPUT);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[512];
        int count = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            char ignored[1024];
            switch (kinds[fd]) {
            case LISTENER: accept_all(epoll, fd, HANDSHAKE); break;
            case LINE_LISTENER: accept_all(epoll, fd, LINES); break;
            case HANDSHAKE: handshake(fd); break;
            case LINES: publish(fd); break;
            case INPUT: if (read(fd, ignored, sizeof ignored) <= 0) return 0; break;
            case OPEN: if (read(fd, ignored, sizeof ignored) <= 0) forget(fd); break;
            default: break;
            }
        }
    }
}
