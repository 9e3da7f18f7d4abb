#!/bin/sh
# As the official image's: makes the database of POSTGRES_USER with POSTGRES_PASSWORD, and serves it.
set -eu

if [ ! -e "$PGDATA/PG_VERSION" ]; then
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 >/dev/null
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_USER\"" | postgres --single -jE postgres >/dev/null
fi
# No socket but that of TCP: its folder is not there.
exec postgres -c listen_addresses='*' -c unix_socket_directories= "$@"
