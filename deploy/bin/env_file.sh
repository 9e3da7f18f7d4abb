# shellcheck shell=bash
# The file .env, which Compose reads: to look into, and to change.

# in_env NAME : its value in .env
in_env() {
    if [[ -r .env ]]; then sed -n "s/^$1=[\"']\{0,1\}\([^\"']*\).*/\1/p" .env | tail -n 1; fi
}

# write_env LINE... : whole or not at all, and for the eyes of whom it was before
write_env() {
    local file
    file=$(readlink -f .env)
    if [[ -e $file ]]; then cp --preserve=mode "$file" "$file.new"; fi
    printf '%s\n' "$@" >"$file.new"
    mv "$file.new" "$file"
}

# others_in_env NAME : the lines of .env that do not set it
others_in_env() {
    if [[ -r .env ]]; then grep -v "^$1=" .env || true; fi
}
