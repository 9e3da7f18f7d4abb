# shellcheck shell=bash
# containers_file COMMAND... : has what it prints of containers in the file $containers_file, which goes with the script.
# A variable, or an argument, can be no longer than 128 KiB: 1,300 replicas. In this folder: Docker may see no other.
containers_file() {
    containers_file=$(mktemp "$PWD/.containers.XXXXXX")
    trap 'rm -f "$containers_file"' EXIT
    "$@" >"$containers_file"
    chmod a+r "$containers_file"
}
