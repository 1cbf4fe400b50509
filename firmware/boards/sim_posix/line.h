/* The serial line of the simulator: standard streams, a pseudo terminal, or a TCP port of this machine. */
#ifndef SIM_LINE_H
#define SIM_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sim_line {
    int in, out;    /* -1: nobody is connected */
    int listener;   /* of TCP, else -1 */
    bool ended;     /* the input is over, and nobody can come back */
} sim_line;

/* Each returns NULL or what went wrong. */
const char *line_open_stdio(sim_line *line);
const char *line_open_pty(sim_line *line); /* prints the path of the other end */
const char *line_open_tcp(sim_line *line, uint16_t port); /* prints the port; 0 chooses one */

size_t line_read(sim_line *line, uint8_t *data, size_t cap);
size_t line_write(sim_line *line, const uint8_t *data, size_t bytes);
/* Until there is input, or room for output where that is `wanted`, or a few milliseconds are over. */
void line_wait(sim_line *line, bool output_waits);

#endif
