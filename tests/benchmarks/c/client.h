/* What the programs have in common: connecting, deliveries, properties, ids, confirms. */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#define CHANNEL 1
#define ID_LENGTH 36

/* The most publishes that await their confirm; a power of two, since it indexes a ring. */
#define WINDOW 2048

/* Deliveries that await their ack: never more than the confirms that are kept account of. */
#define PREFETCH 1000

/* One delivery on its way in; its frames arrive one by one. */
struct message {
    uint64_t size, read;
    amqp_bytes_t id, correlation_id;
    char *body;
    uint64_t capacity;
};

/* Which publishes are confirmed. Tags begin at 1 and are given in the order of publishing. */
struct confirms {
    uint64_t sent;
    uint64_t up_to; /* all tags up to here are confirmed */
    bool beyond[WINDOW];
};

void die(const char *what, int status);
const char *setting(const char *name);

/* Connects as the environment says, with TLS if it names a CA; opens the channel; selects confirms
 * if it is to publish. */
amqp_connection_state_t open_connection(bool publishes);

/* Publishes persistent and mandatory, with the properties that the stages of the pipeline set. */
void publish(amqp_connection_state_t connection, amqp_bytes_t name, char id[ID_LENGTH],
             amqp_bytes_t correlation_id, amqp_bytes_t body, struct confirms *confirms);

/* Takes the confirms that have arrived; waits for the first one when told to. */
void read_confirms(amqp_connection_state_t connection, struct confirms *confirms, bool wait);

/* Whether something was read from the socket already: then poll() would not tell of it. */
bool has_buffered(amqp_connection_state_t connection);

/* Registers a consumer of the queue. */
void consume(amqp_connection_state_t connection, const char *queue);

/* Takes one frame of a delivery; says whether the message is complete. */
bool receive(struct message *message, const amqp_frame_t *frame);

/* Writes an id in the shape of a UUID of this version; the same numbers give the same id. */
void write_id(char id[ID_LENGTH], uint64_t high, uint64_t low, char version);

#endif
