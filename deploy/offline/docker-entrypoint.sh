#!/bin/bash
# As the official image's: a server that is started as root owns its data, then runs as rabbitmq.
set -euo pipefail

if [[ $1 == rabbitmq* && $(id -u) == 0 ]]; then
    if [[ $1 == rabbitmq-server ]]; then
        find /var/lib/rabbitmq ! -user rabbitmq -exec chown rabbitmq {} +
    fi
    exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups "$0" "$@"
fi

# A host name with dots makes a node name with dots, which Erlang takes only when told so.
if [[ -z ${RABBITMQ_USE_LONGNAME:-} && $(hostname) != $(hostname -s) ]]; then
    export RABBITMQ_USE_LONGNAME=true
fi

exec "$@"
