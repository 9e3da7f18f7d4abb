#!/bin/bash
# As the official image's: a server that is started as root owns its data, then runs as rabbitmq.
set -euo pipefail

# As there, too: what it does not heed could leave a broker with an administrator guest, guest.
for name in RABBITMQ_{DEFAULT_{PASS,USER}_FILE,VM_MEMORY_HIGH_WATERMARK} \
    RABBITMQ_{,MANAGEMENT_}SSL_{CACERTFILE,CERTFILE,DEPTH,FAIL_IF_NO_PEER_CERT,KEYFILE,VERIFY}; do
    if [[ -n ${!name:-} ]]; then
        echo "error: $name is set, which is no longer supported: use a configuration file instead," \
            "and definitions for users" >&2
        exit 1
    fi
done

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
