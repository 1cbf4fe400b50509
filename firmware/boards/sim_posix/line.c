#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700
#include "line.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define WAIT_MS 20

static void unblock(int fd)
{
    const int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

const char *line_open_stdio(sim_line *line)
{
    line->in = STDIN_FILENO;
    line->out = STDOUT_FILENO;
    line->listener = -1;
    line->ended = false;
    unblock(line->out);
    return NULL;
}

const char *line_open_pty(sim_line *line)
{
    struct termios raw;
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        return strerror(errno);
    const char *path = ptsname(master);
    const int slave = path != NULL ? open(path, O_RDWR | O_NOCTTY) : -1;
    if (slave < 0 || tcgetattr(slave, &raw) != 0)
        return strerror(errno);
    raw.c_iflag &= (tcflag_t) ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_oflag &= (tcflag_t)~OPOST;
    raw.c_lflag &= (tcflag_t) ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    (void)tcsetattr(slave, TCSANOW, &raw); /* the slave stays open: reads do not fail while nobody else has it */
    printf("%s\n", path);
    fflush(stdout);
    line->in = line->out = master;
    line->listener = -1;
    line->ended = false;
    unblock(master);
    return NULL;
}

const char *line_open_tcp(sim_line *line, uint16_t port)
{
    struct sockaddr_in address;
    socklen_t bytes = sizeof address;
    const int yes = 1;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        return strerror(errno);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &bytes) != 0)
        return strerror(errno);
    printf("socket://127.0.0.1:%u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
    unblock(fd);
    line->in = line->out = -1;
    line->listener = fd;
    line->ended = false;
    return NULL;
}

static void hang_up(sim_line *line)
{
    if (line->listener < 0) {
        line->ended = true;
        return;
    }
    (void)close(line->in);
    line->in = line->out = -1;
}

/* Whether the other side has closed and left nothing to read. */
static bool gone(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* One host at a time: who comes second is told so. */
static void welcome_host(sim_line *line)
{
    static const char busy[] = "busy: another host is connected\r\n";
    const int yes = 1;
    const int fd = line->listener >= 0 ? accept(line->listener, NULL, NULL) : -1;
    if (fd < 0)
        return;
    if (line->in >= 0 && gone(line->in))
        hang_up(line); /* it left before this one came */
    if (line->in >= 0) {
        (void)!write(fd, busy, sizeof busy - 1);
        (void)close(fd);
        return;
    }
    unblock(fd);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    line->in = line->out = fd;
}

size_t line_read(sim_line *line, uint8_t *data, size_t cap)
{
    welcome_host(line);
    if (line->in < 0 || line->ended)
        return 0;
    struct pollfd ready = {line->in, POLLIN, 0};
    if (poll(&ready, 1, 0) <= 0)
        return 0;
    const ssize_t n = read(line->in, data, cap);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        hang_up(line);
    return n > 0 ? (size_t)n : 0;
}

size_t line_write(sim_line *line, const uint8_t *data, size_t bytes)
{
    if (line->out < 0)
        return bytes; /* nobody listens */
    const ssize_t n = write(line->out, data, bytes);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        hang_up(line);
        return bytes;
    }
    return n > 0 ? (size_t)n : 0;
}

void line_wait(sim_line *line, bool output_waits)
{
    struct pollfd ready[3] = {{line->ended ? -1 : line->in, POLLIN, 0},
                              {output_waits ? line->out : -1, POLLOUT, 0},
                              {line->listener, POLLIN, 0}};
    (void)poll(ready, 3, WAIT_MS);
}
