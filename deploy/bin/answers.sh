# shellcheck shell=bash
# answers SECONDS COMMAND... : runs a command, quietly, and gives up when it stays silent for so
# long. Once it has said a word it may take its time: a slow pull is not a dead registry.
answers() {
    local words pid deadline=$((SECONDS + $1))
    words=$(mktemp)
    "${@:2}" >"$words" 2>/dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null && [[ ! -s $words ]]; do
        if ((SECONDS > deadline)); then kill "$pid"; fi
        sleep 0.05
    done
    rm "$words"
    wait "$pid" 2>/dev/null
}
