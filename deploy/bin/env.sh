# shellcheck shell=bash
# For scripts that ask no Compose: what it would read by itself.

die() {
    echo "$1" >&2
    exit 2
}

# Compose reads .env, and what is in the shell wins over it; `docker stack` and kubectl read the shell only.
read_env() {
    local name value
    [[ -r .env ]] || return 0
    while IFS='=' read -r name value; do
        if [[ -n ${!name+set} ]]; then continue; fi
        if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
        export "$name=$value"
    done < <(grep -E '^[A-Za-z_][A-Za-z0-9_]*=' .env)
}

read_env
project=${COMPOSE_PROJECT_NAME:-pipeline}
