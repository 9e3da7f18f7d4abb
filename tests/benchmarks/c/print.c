/* The reference that the printer is held against: consume, print each message as a line, flush what
 * has arrived together, ack it with one ack. Less than the printer does: it escapes nothing.
 */
#include "client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

/* So much is printed with one system call, at most. */
#define BUFFER_BYTES 65536

static const struct timeval NOT_AT_ALL = {0, 0};

/* Prints what has arrived; returns how many messages that were. */
static uint64_t print_what_has_arrived(amqp_connection_state_t consuming, struct message *message)
{
    uint64_t printed = 0;
    do {
        amqp_frame_t frame;
        int status = amqp_simple_wait_frame_noblock(consuming, &frame, &NOT_AT_ALL);
        if (status == AMQP_STATUS_TIMEOUT) break;
        if (status != AMQP_STATUS_OK) die("reading deliveries", status);
        if (!receive(message, &frame)) continue;
        fwrite(message->body, 1, message->size, stdout);
        putchar('\n');
        printed++;
        amqp_maybe_release_buffers(consuming);
    } while (has_buffered(consuming));
    return printed;
}

int main(void)
{
    amqp_connection_state_t consuming = open_connection(false);
    struct pollfd socket = {.fd = amqp_get_sockfd(consuming), .events = POLLIN};
    struct message message = {0};
    uint64_t printed = 0;

    setvbuf(stdout, NULL, _IOFBF, BUFFER_BYTES);
    consume(consuming, setting("INPUT_QUEUE"));
    for (;;) {
        if (poll(&socket, 1, has_buffered(consuming) ? 0 : -1) < 0)
            die("polling", AMQP_STATUS_SOCKET_ERROR);
        uint64_t now = print_what_has_arrived(consuming, &message);
        if (now == 0) continue;
        if (fflush(stdout) != 0) { /* printed, then acked */
            perror("printing");
            return 1;
        }
        printed += now;
        int status = amqp_basic_ack(consuming, CHANNEL, printed, 1);
        if (status != AMQP_STATUS_OK) die("acking", status);
    }
}
