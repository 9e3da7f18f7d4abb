# shellcheck shell=bash
# What the scripts of this folder share. They run in the project's folder; $project is the stack's name.

die() {
    echo "$1" >&2
    exit 2
}

# Compose reads .env by itself, and what is in the shell wins over it; `docker stack` reads the shell only.
read_env() {
    local name value
    [[ -r .env ]] || return 0
    while IFS='=' read -r name value; do
        if [[ -n ${!name+set} ]]; then continue; fi
        if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
        export "$name=$value"
    done < <(grep -E '^[A-Za-z_][A-Za-z0-9_]*=' .env)
}

# of_task SERVICE TEMPLATE : from what its tasks are made of
of_task() {
    docker service inspect --format "{{with .Spec.TaskTemplate}}$2{{end}}" "${project}_$1" 2>/dev/null
}

read_env
project=${COMPOSE_PROJECT_NAME:-pipeline}
