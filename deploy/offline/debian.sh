# shellcheck shell=bash
# A private apt: this machine's Debian mirror and keys, but another suite and its own lists and
# cache. So it needs no root, and what the machine itself has installed or listed stays as it is.

debian_suite=${DEBIAN_SUITE:-testing}
debian_cache=${XDG_CACHE_HOME:-$HOME/.cache}/pipeline/$debian_suite

# debian_apt ARGUMENT... : apt-get on the private state, silent unless a person watches
debian_apt() {
    local quiet=2
    if [[ -t 2 ]]; then quiet=0; fi
    apt-get --quiet="$quiet" -c "$debian_cache/apt.conf" "$@" >&2
}

# debian_mirrors : the main archive, as this machine's own sources name it. A third party may use
# the same suite names, so there can be several: debian_update lets the signature decide.
debian_mirrors() {
    local codename uri suite component
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Identifier: Packages' | sort -u | while read -r uri suite component; do
        if [[ $component == main && $suite =~ ^($codename|(old)*stable|testing|sid)$ ]]; then
            echo "${uri%/}"
        fi
    done
}

# debian_key MIRROR : the key file that a source names for this mirror, which apt does not tell
debian_key() {
    local file record
    for file in /etc/apt/sources.list{,.d/*.list,.d/*.sources}; do
        [[ -r $file ]] || continue
        if [[ $file == *.sources ]]; then record=''; else record='\n'; fi
        awk -v RS="$record" -v mirror="$1" '$0 ~ mirror "/?([ \n]|$)" &&
            match($0, /[Ss]igned-[Bb]y[:=] *\/[^] \n]+/) { print substr($0, RSTART, RLENGTH) }' "$file"
    done | sed -n 's,^[^/]*,,p;q'
}

# debian_configure MIRROR : writes apt.conf and the one source it reads
debian_configure() {
    local key
    key=$(debian_key "$1")
    # target=Packages: no command-not-found, no icons, whatever the machine's apt adds
    echo "deb [target=Packages${key:+ signed-by=$key}] $1 $debian_suite main" >"$debian_cache/debian.list"
    cat >"$debian_cache/apt.conf" <<-END
		// what hooks the machine's apt has are not for a private state
		#clear APT::Update;
		#clear DPkg;
		Dir::State "$debian_cache";
		Dir::State::status "$debian_cache/nothing-installed";
		Dir::Cache "$debian_cache";
		Dir::Cache::pkgcache "pkgcache.bin";
		Dir::Cache::srcpkgcache "srcpkgcache.bin";
		Dir::Etc::sourcelist "$debian_cache/debian.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		APT::Default-Release "";
		APT::Install-Recommends "false";
		// root's apt would download as user _apt, who may not write to this folder
		APT::Sandbox::User "";
		// a mirror that is no longer synchronised is still good to build from
		Acquire::Check-Valid-Until "false";
		Acquire::Languages "none";
		Acquire::http::Timeout "15";
		APT::Update::Error-Mode "any";
	END
}

# debian_update : fetches the suite's list of packages; fails, and says why, if no mirror has it
debian_update() {
    local mirror
    if ! command -v apt-get dpkg-deb >/dev/null; then
        echo "this machine has no apt to get Debian packages with" >&2
        return 1
    fi
    mkdir -p "$debian_cache"/{lists,archives}/partial
    touch "$debian_cache/nothing-installed"
    for mirror in $(debian_mirrors); do
        debian_configure "$mirror"
        if debian_apt update; then
            debian_validity
            return
        fi
    done
    echo "no Debian mirror in /etc/apt serves the suite $debian_suite, signed with a key known here" >&2
    return 1
}

# debian_validity : says since when the list is no longer vouched for, if that is so
debian_validity() {
    local until
    until=$(cat "$debian_cache"/lists/*Release 2>/dev/null | sed -n 's/^Valid-Until: //p' | head -n 1)
    if [[ -n $until ]] && (($(date --date "$until" +%s) < $(date +%s))); then
        echo "warning: the list of packages of Debian $debian_suite was valid until $until: the mirror" \
            "is no longer renewed, and newer packages and their security fixes are missing" >&2
    fi
}
