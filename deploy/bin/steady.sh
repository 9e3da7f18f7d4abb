# shellcheck shell=bash
# steady COMMAND... : runs a command that looks at containers, again when it has ended with an error
# because one of them went away meanwhile, as that of another command that has just ended does.
steady() {
    local said errors code tries=10
    errors=$(mktemp)
    while code=0; said=$("$@" 2>"$errors") || code=$?; ((code && --tries)); do
        grep -q 'No such container' "$errors" || break
    done
    cat "$errors" >&2
    rm "$errors"
    if [[ -n $said ]]; then echo "$said"; fi
    return "$code"
}
