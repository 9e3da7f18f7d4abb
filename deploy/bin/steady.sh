# shellcheck shell=bash
# What looks at containers, pods and others. A look that fails says nothing of what it was to see: take what it
# says into a variable first, and see its exit code. `while read ...; done < <(look)` takes an error for "none".

# steady COMMAND... : runs a command that looks at containers, again when it has ended with an error
# because one of them went away meanwhile, as that of another command that has just ended does.
steady() {
    _again 10 0 'No such container' "$@"
}

# patiently COMMAND... : runs a command that only looks, again a second later when it has ended with an error,
# whichever that is: for who waits, or has done half, while an API or a daemon is away for a moment.
patiently() {
    _again 5 1 '' "$@"
}

# _again TRIES SECONDS ERROR COMMAND... : with so many seconds between two tries
_again() {
    local said errors code tries=$1 pause=$2 error=$3
    errors=$(mktemp)
    while code=0; said=$("${@:4}" 2>"$errors") || code=$?; ((code && --tries)); do
        if [[ -n $error ]] && ! grep -q "$error" "$errors"; then break; fi
        if ((pause)); then sleep "$pause"; fi
    done
    cat "$errors" >&2
    rm "$errors"
    if [[ -n $said ]]; then echo "$said"; fi
    return "$code"
}

# inspected FORMAT ID... : what `docker inspect` says of those of these containers, or tasks, that are there still;
# without empty lines.
inspected() {
    local said errors code=0
    if (($# == 1)); then return; fi
    errors=$(mktemp)
    said=$(docker inspect --format "$@" 2>"$errors") || code=$?
    if ((code)) && [[ -s $errors ]] && ! grep -qvi 'no such' "$errors"; then code=0; fi
    if ((code)); then cat "$errors" >&2; fi
    rm "$errors"
    sed '/^$/d' <<<"$said"
    return "$code"
}
