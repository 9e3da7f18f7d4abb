/* The reference that the producer is held against: publishes each line of a file, persistent, with
 * pipelined confirms; ends when all are confirmed.
 *
 * usage: publish FILE; the environment names the broker and OUTPUT_QUEUE.
 */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>

/* How many publishes go between two looks at the confirms. */
#define LOOK_EVERY 64

static uint64_t random_state[2];

static uint64_t next_random(void) /* xorshift128+, seeded by the system */
{
    uint64_t a = random_state[0], b = random_state[1];
    random_state[0] = b;
    a ^= a << 23;
    random_state[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return random_state[1] + b;
}

static void seed(void)
{
    FILE *source = fopen("/dev/urandom", "rb");
    if (source == NULL || fread(random_state, sizeof random_state, 1, source) != 1) {
        perror("/dev/urandom");
        exit(1);
    }
    fclose(source);
}

static void publish_line(amqp_connection_state_t connection, amqp_bytes_t output, char *line,
                         size_t length, struct confirms *confirms)
{
    char id[ID_LENGTH];
    write_id(id, next_random(), next_random(), '4');
    amqp_bytes_t body = {length, line}, correlation_id = {ID_LENGTH, id};
    publish(connection, output, id, correlation_id, body, confirms);
    if (confirms->sent % LOOK_EVERY == 0) read_confirms(connection, confirms, false);
    while (confirms->sent - confirms->up_to >= WINDOW - 1) read_confirms(connection, confirms, true);
}

int main(int count, char **arguments)
{
    FILE *lines = count == 2 ? fopen(arguments[1], "r") : NULL;
    if (lines == NULL) {
        fputs("usage: publish FILE\n", stderr);
        return 2;
    }
    seed();
    amqp_bytes_t output = amqp_cstring_bytes(setting("OUTPUT_QUEUE"));
    amqp_connection_state_t connection = open_connection(true);
    struct confirms confirms = {0};
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, lines)) > 0) {
        if (line[length - 1] == '\n') length--;
        publish_line(connection, output, line, (size_t)length, &confirms);
    }
    while (confirms.up_to < confirms.sent) read_confirms(connection, &confirms, true);
    printf("published %llu messages, all confirmed\n", (unsigned long long)confirms.sent);
    return 0;
}
