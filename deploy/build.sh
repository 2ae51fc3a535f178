#!/bin/sh
# Builds what is installed: three Debian packages, one tarball, manual pages, completions, the list of parts (SBOM).
#
#   deploy/build.sh            from a checkout, with cargo, cargo-deb (cargo install --locked cargo-deb) and dpkg-dev
#   deploy/build.sh --no-build packs the programs that are built already
#
# QUORATE_PROFILE=dev packs debug builds, stripped: the lab of virtual hosts wants them fast, not small. Default: release.
#
# Results: target/dist/. The programs are linked with this machine's glibc: they run on the same or a newer release of Debian.
# A static build needs the musl target and its C compiler (aws-lc is C): `rustup target add x86_64-unknown-linux-musl`,
# `apt-get install musl-tools cmake`, then QUORATE_TARGET=x86_64-unknown-linux-musl deploy/build.sh.
set -eu
cd "$(dirname "$0")/.."
build=yes
[ "${1:-}" = --no-build ] && build=no
profile=${QUORATE_PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}
# Cargo's folder for the profile `dev` is `debug`; every other profile's has its name.
folder=$profile
[ "$profile" = dev ] && folder=debug
programs=$target${QUORATE_TARGET:+/$QUORATE_TARGET}/$folder
# The package metadata names this folder, wherever cargo builds.
dist=target/dist
if [ "$build" = yes ]; then
    # The pages' generator is built beside the programs, from the same types, and stays here.
    cargo build --locked --profile "$profile" ${QUORATE_TARGET:+--target "$QUORATE_TARGET"} \
        -p quorate-cli -p quorate-agent -p quorate-coordinator -p quorate-pages
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

# The release profile strips; other profiles keep symbols for debuggers, and no package should carry them.
strip=--strip
[ "$profile" = release ] && strip=--no-strip
for crate in quorate-cli quorate-agent quorate-coordinator; do
    cargo deb --no-build --profile "$profile" "$strip" -p "$crate" --output "$dist/" ${QUORATE_TARGET:+--target "$QUORATE_TARGET"}
done

arch=$(uname -m)
linked=glibc
if ! ldd "$programs/quorate-agent" >/dev/null 2>&1; then
    linked=static
fi
name=quorate-$version-linux-$arch-$linked
stage=$dist/$name
mkdir -p "$stage/bin"
for program in quorate quorate-agent quorate-helper quorate-coordinator; do
    cp "$programs/$program" "$stage/bin/"
    [ "$strip" = --no-strip ] || strip "$stage/bin/$program"
done
cp -R "$dist/completions" "$dist/man" deploy/systemd deploy/config deploy/prometheus deploy/grafana deploy/guide deploy/examples \
    "$stage/"
cp LICENSE LICENSE-APACHE LICENSE-MIT README.md CHANGELOG.md "$dist/sbom.json" "$stage/"
tar -C "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$name" \
    | gzip -9n >"$dist/$name.tar.gz"
rm -rf "$stage"
(cd "$dist" && sha256sum -- *.deb *.tar.gz >SHA256SUMS && cat SHA256SUMS)
[ "$linked" = static ] || echo "note: the programs need glibc; $name is not a static tarball" >&2
