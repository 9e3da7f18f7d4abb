# shellcheck shell=bash
# What the scripts of this folder share. They run in the project's folder; $project is the stack's name.
source deploy/bin/env.sh
source deploy/bin/steady.sh

# of_task SERVICE TEMPLATE : from what its tasks are made of
of_task() {
    docker service inspect --format "{{with .Spec.TaskTemplate}}$2{{end}}" "${project}_$1" 2>/dev/null
}
