#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

static const struct timeval NOT_AT_ALL = {0, 0};

void die(const char *what, int status)
{
    fprintf(stderr, "%s: %s\n", what, amqp_error_string2(status));
    exit(1);
}

static void check(const char *what, amqp_rpc_reply_t reply)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) die(what, reply.library_error);
    fprintf(stderr, "%s: the broker closed the connection or the channel\n", what);
    exit(1);
}

const char *setting(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "%s is not set\n", name);
        exit(2);
    }
    return value;
}

static amqp_socket_t *new_socket(amqp_connection_state_t connection, const char *ca)
{
    if (ca == NULL) return amqp_tcp_socket_new(connection);
    amqp_socket_t *socket = amqp_ssl_socket_new(connection);
    int status = amqp_ssl_socket_set_cacert(socket, ca);
    if (status != AMQP_STATUS_OK) die("reading the CA's certificate", status);
    return socket;
}

amqp_connection_state_t open_connection(bool publishes)
{
    const char *ca = getenv("RABBITMQ_CA_FILE");
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = new_socket(connection, ca);
    int status = amqp_socket_open(socket, setting("RABBITMQ_HOST"), ca == NULL ? 5672 : 5671);
    if (status != AMQP_STATUS_OK) die("connecting", status);
    check("logging in", amqp_login(connection, "/", 0, AMQP_DEFAULT_FRAME_SIZE, 0,
                                   AMQP_SASL_METHOD_PLAIN, setting("RABBITMQ_USERNAME"),
                                   setting("RABBITMQ_PASSWORD")));
    amqp_channel_open(connection, CHANNEL);
    check("opening a channel", amqp_get_rpc_reply(connection));
    if (publishes) {
        amqp_confirm_select(connection, CHANNEL);
        check("selecting confirms", amqp_get_rpc_reply(connection));
    }
    return connection;
}

void publish(amqp_connection_state_t connection, amqp_bytes_t name, char id[ID_LENGTH],
             amqp_bytes_t correlation_id, amqp_bytes_t body, struct confirms *confirms)
{
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                  AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                  AMQP_BASIC_CORRELATION_ID_FLAG,
        .content_type = amqp_cstring_bytes("text/plain"),
        .content_encoding = amqp_cstring_bytes("utf-8"),
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
        .message_id = {ID_LENGTH, id},
        .correlation_id = correlation_id,
    };
    int status = amqp_basic_publish(connection, CHANNEL, name, name, 1, 0, &properties, body);
    if (status != AMQP_STATUS_OK) die("publishing", status);
    confirms->sent++;
}

static void confirm(struct confirms *confirms, uint64_t tag, bool multiple)
{
    if (multiple) {
        for (; confirms->up_to < tag; confirms->up_to++)
            confirms->beyond[(confirms->up_to + 1) % WINDOW] = false;
    } else {
        confirms->beyond[tag % WINDOW] = true;
    }
    while (confirms->beyond[(confirms->up_to + 1) % WINDOW]) {
        confirms->up_to++;
        confirms->beyond[confirms->up_to % WINDOW] = false;
    }
}

bool has_buffered(amqp_connection_state_t connection)
{
    return amqp_frames_enqueued(connection) || amqp_data_in_buffer(connection);
}

void read_confirms(amqp_connection_state_t connection, struct confirms *confirms, bool wait)
{
    do {
        amqp_frame_t frame;
        int status =
            amqp_simple_wait_frame_noblock(connection, &frame, wait ? NULL : &NOT_AT_ALL);
        if (status == AMQP_STATUS_TIMEOUT) break;
        if (status != AMQP_STATUS_OK) die("reading confirms", status);
        if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD) {
            fputs("a message was refused, or could not be routed\n", stderr);
            exit(1);
        }
        amqp_basic_ack_t *ack = frame.payload.method.decoded;
        confirm(confirms, ack->delivery_tag, ack->multiple);
        wait = false;
    } while (has_buffered(connection));
    amqp_maybe_release_buffers(connection);
}

static void begin(struct message *message, const amqp_frame_t *frame)
{
    const amqp_basic_properties_t *properties = frame->payload.properties.decoded;
    message->size = frame->payload.properties.body_size;
    message->read = 0;
    message->id = properties->message_id;
    message->correlation_id = properties->correlation_id;
    if (message->size > message->capacity) {
        message->capacity = message->size;
        message->body = realloc(message->body, message->size);
        if (message->body == NULL) die("keeping a message", AMQP_STATUS_NO_MEMORY);
    }
}

bool receive(struct message *message, const amqp_frame_t *frame)
{
    if (frame->frame_type == AMQP_FRAME_METHOD) {
        if (frame->payload.method.id != AMQP_BASIC_DELIVER_METHOD) {
            fputs("the broker cancelled the consumer or closed the channel\n", stderr);
            exit(1);
        }
        return false;
    }
    if (frame->frame_type == AMQP_FRAME_HEADER) {
        begin(message, frame);
    } else if (frame->frame_type == AMQP_FRAME_BODY) {
        amqp_bytes_t part = frame->payload.body_fragment;
        memcpy(message->body + message->read, part.bytes, part.len);
        message->read += part.len;
    }
    return message->read == message->size;
}

void consume(amqp_connection_state_t connection, const char *queue)
{
    amqp_basic_qos(connection, CHANNEL, 0, PREFETCH, 0);
    amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(connection);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) die("consuming", AMQP_STATUS_BAD_AMQP_DATA);
}

void write_id(char id[ID_LENGTH], uint64_t high, uint64_t low, char version)
{
    static const char DIGITS[] = "0123456789abcdef";
    static const unsigned char PLACES[32] = {0,  1,  2,  3,  4,  5,  6,  7,  9,  10, 11,
                                             12, 14, 15, 16, 17, 19, 20, 21, 22, 24, 25,
                                             26, 27, 28, 29, 30, 31, 32, 33, 34, 35};
    for (int place = 15; place >= 0; place--, high >>= 4, low >>= 4) {
        id[PLACES[place]] = DIGITS[high & 15];
        id[PLACES[place + 16]] = DIGITS[low & 15];
    }
    id[8] = id[13] = id[18] = id[23] = '-';
    id[14] = version;
    id[19] = 'a'; /* the variant of RFC 9562 */
}
