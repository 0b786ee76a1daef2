# Sourced: installs Debian's packages and Cargo's tools that a script needs, and says so.

# What is built with. Each is fixed, so that the same commit is packed the same way next year.
cargo_deb=3.8.0 cargo_cyclonedx=0.5.9 cargo_deny=0.20.2

need() { # need WHO COMMAND PACKAGE
    command -v "$2" >/dev/null 2>&1 || { echo "$1: $2 is missing; install it (apt-get install $3)" >&2; exit 2; }
}

install_debian() { # install_debian WHO PACKAGE[:ARCHITECTURE]…
    local who=$1 package state as_root=() missing=()
    shift
    for package in "$@"; do
        state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
        [[ $state == ii* ]] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "$who: installing ${missing[*]} with apt-get"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 ||
            { echo "$who: as root, run: dpkg --add-architecture arm64; apt-get update; apt-get install ${missing[*]}" >&2; exit 2; }
        as_root=(sudo)
    fi
    if [[ "${missing[*]}" == *:arm64* ]] && ! dpkg --print-foreign-architectures | grep -qx arm64; then
        "${as_root[@]}" dpkg --add-architecture arm64
    fi
    "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=600 update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq \
        --no-install-recommends "${missing[@]}"
}

cargo_tool() { # cargo_tool NAME VERSION: installs it into target/tools unless it is there
    if ! grep -qsF "\"$1 $2 " target/tools/.crates.toml; then
        cargo install "$1" --version "$2" --locked --root target/tools --target-dir target/tools/build
    fi
}
