/* The reference that to_upper is held against: consume, upper-case, publish, wait for the confirm,
 * ack; at least once. It does what a good C program on librabbitmq does: two connections (an
 * alarm must not stall the acks), a deep prefetch, pipelined confirms, one ack for many inputs.
 *
 * Less than a stage does: only ASCII letters are upper-cased, it does not reconnect, it hears no
 * commands, and a message that is refused ends it (its input stays unacked and comes again).
 */
#include "client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

static const struct timeval NOT_AT_ALL = {0, 0};

static uint64_t hash(uint64_t seed, amqp_bytes_t bytes)
{
    const unsigned char *byte = bytes.bytes;
    for (size_t i = 0; i < bytes.len; i++) /* FNV-1a */
        seed = (seed ^ byte[i]) * 0x100000001b3;
    return seed;
}

static void upper(char *text, uint64_t length)
{
    for (uint64_t i = 0; i < length; i++)
        if (text[i] >= 'a' && text[i] <= 'z') text[i] -= 'a' - 'A';
}

/* The same input gives the same id, so that a consumer can drop duplicates. */
static void derive_id(char id[ID_LENGTH], amqp_bytes_t input_id)
{
    uint64_t high = hash(0xcbf29ce484222325, input_id);
    write_id(id, high, hash(~high, input_id), '5');
}

static void relay_what_has_arrived(amqp_connection_state_t consuming,
                                   amqp_connection_state_t publishing, amqp_bytes_t output,
                                   struct message *message, struct confirms *confirms)
{
    do {
        amqp_frame_t frame;
        int status = amqp_simple_wait_frame_noblock(consuming, &frame, &NOT_AT_ALL);
        if (status == AMQP_STATUS_TIMEOUT) return;
        if (status != AMQP_STATUS_OK) die("reading deliveries", status);
        if (!receive(message, &frame)) continue;
        char id[ID_LENGTH];
        derive_id(id, message->id);
        upper(message->body, message->size);
        amqp_bytes_t body = {message->size, message->body};
        publish(publishing, output, id, message->correlation_id, body, confirms);
        amqp_maybe_release_buffers(consuming); /* only now: the ids are kept in them */
    } while (has_buffered(consuming));
}

int main(void)
{
    const char *input = setting("INPUT_QUEUE");
    amqp_bytes_t output = amqp_cstring_bytes(setting("OUTPUT_QUEUE"));
    amqp_connection_state_t consuming = open_connection(false);
    amqp_connection_state_t publishing = open_connection(true);
    struct pollfd sockets[] = {
        {.fd = amqp_get_sockfd(consuming), .events = POLLIN},
        {.fd = amqp_get_sockfd(publishing), .events = POLLIN},
    };
    struct confirms confirms = {0};
    struct message message = {0};
    uint64_t acked = 0;

    consume(consuming, input);
    for (;;) {
        bool is_buffered = has_buffered(consuming) || has_buffered(publishing);
        if (poll(sockets, 2, is_buffered ? 0 : -1) < 0) die("polling", AMQP_STATUS_SOCKET_ERROR);
        if (sockets[1].revents || has_buffered(publishing))
            read_confirms(publishing, &confirms, false);
        /* One output for each input, in order: the tags of both connections are the same. */
        if (confirms.up_to > acked) {
            acked = confirms.up_to;
            int status = amqp_basic_ack(consuming, CHANNEL, acked, 1);
            if (status != AMQP_STATUS_OK) die("acking", status);
        }
        if (sockets[0].revents || has_buffered(consuming))
            relay_what_has_arrived(consuming, publishing, output, &message, &confirms);
    }
}
