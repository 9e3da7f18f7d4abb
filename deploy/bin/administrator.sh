# shellcheck shell=bash
# as_administrator CONFIGURATION : where the pipeline is secured, control's own user may not change what
# stages use: the options of `docker compose run`, a line each, with which it logs in as who may
as_administrator() {
    local password=$PWD/secrets/passwords/administrator
    if [[ $1 == *secured_ca* && -f $password ]]; then
        printf '%s\n' --env RABBITMQ_USERNAME=administrator --volume "$password:/run/secrets/rabbitmq_password:ro"
    fi
}
