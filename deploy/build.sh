#!/bin/sh
# Builds what is installed: three Debian packages, one tarball, manual pages, completions, the list of parts (SBOM).
#
#   deploy/build.sh            from a checkout, with cargo, cargo-deb (cargo install --locked cargo-deb) and dpkg-dev
#   deploy/build.sh --no-build makes the packages of programs that are built already, and no tarball
#
# QUORATE_PROFILE=dev packs debug builds, stripped: the lab of virtual hosts wants them fast, not small. Default: release.
#
# Results: target/dist/. The programs of the packages are linked with this machine's glibc: they run on the same or a newer
# release of Debian. Those of the tarball need no library at all: glibc is in them. It looks names up in /etc/hosts and by DNS
# itself; other sources that /etc/nsswitch.conf may name (mymachines, ldap) it asks only where the same glibc is installed.
set -eu
cd "$(dirname "$0")/.."
build=yes
[ "${1:-}" = --no-build ] && build=no
profile=${QUORATE_PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}
# Cargo's folder for the profile `dev` is `debug`; every other profile's has its name.
folder=$profile
[ "$profile" = dev ] && folder=debug
programs=$target/$folder
host=$(rustc -vV | sed -n 's/^host: //p')
# Apart, so that each build keeps what it compiled.
static_target=$target/static
static_programs=$static_target/$host/$folder
# The package metadata names this folder, wherever cargo builds.
dist=target/dist
if [ "$build" = yes ]; then
    # The pages' generator is built beside the programs, from the same types, and stays here.
    cargo build --locked --profile "$profile" -p quorate-cli -p quorate-agent -p quorate-coordinator -p quorate-pages
    # The target is named so that what runs at build time (macros, build scripts) is not linked in the same way.
    RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" cargo build --locked --profile "$profile" --target "$host" \
        --target-dir "$static_target" -p quorate-cli -p quorate-agent -p quorate-coordinator
fi
for program in quorate quorate-agent quorate-helper quorate-coordinator quorate-pages; do
    [ -x "$programs/$program" ] || { echo "error: $programs/$program is missing: run without --no-build" >&2; exit 1; }
done

# The date of the commit, so that the same commit gives the same packages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
date=$(date -u -R -d "@$SOURCE_DATE_EPOCH")

rm -rf "$dist"
mkdir -p "$dist/completions"
"$programs/quorate" completion bash >"$dist/completions/quorate.bash"
"$programs/quorate" completion zsh >"$dist/completions/_quorate"
"$programs/quorate" completion fish >"$dist/completions/quorate.fish"
"$programs/quorate-pages" "$dist/man" "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)" >/dev/null
# As Debian wants them: best compression, no name and no time inside.
gzip -9n "$dist"/man/*
for package in quorate quorate-agent quorate-coordinator; do
    sed "s/@PACKAGE@/$package/; s/@VERSION@/$version-1/; s/@DATE@/$date/" deploy/debian/changelog.in \
        >"$dist/$package.changelog"
done
cargo metadata --locked --format-version 1 | python3 deploy/sbom.py "$version" >"$dist/sbom.json"

# The release profile strips; other profiles keep symbols for debuggers, and no package should carry them. Nor is it worth
# minutes to make those small.
pack="--strip --fast"
[ "$profile" = release ] && pack=--no-strip
for crate in quorate-cli quorate-agent quorate-coordinator; do
    # shellcheck disable=SC2086 # several words on purpose
    cargo deb --no-build --profile "$profile" $pack -p "$crate" --output "$dist/"
done

if [ "$build" = yes ]; then
    name=quorate-$version-linux-$(uname -m)
    stage=$dist/$name
    mkdir -p "$stage/bin"
    for program in quorate quorate-agent quorate-helper quorate-coordinator; do
        # A program that asks for an interpreter asks for libraries.
        headers=$(readelf --program-headers "$static_programs/$program")
        case $headers in *INTERP*) echo "error: $static_programs/$program is not static" >&2; exit 1 ;; esac
        cp "$static_programs/$program" "$stage/bin/"
    done
    cp -R "$dist/completions" "$dist/man" deploy/systemd deploy/config deploy/prometheus deploy/grafana deploy/guide \
        deploy/examples "$stage/"
    cp LICENSE LICENSE-APACHE LICENSE-MIT README.md CHANGELOG.md "$dist/sbom.json" "$stage/"
    tar -C "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf "$dist/$name.tar" "$name"
    gzip -9n "$dist/$name.tar"
    rm -rf "$stage"
fi
cd "$dist"
for file in *.deb *.tar.gz; do
    if [ -e "$file" ]; then sha256sum -- "$file"; fi
done >SHA256SUMS
cat SHA256SUMS
