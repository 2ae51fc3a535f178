#!/bin/sh
# Builds what is installed: three Debian packages, one tarball, completions, the list of parts (SBOM).
#
#   deploy/build.sh            from a checkout, with cargo and cargo-deb (cargo install cargo-deb)
#   deploy/build.sh --no-build packs the programs that target/release holds already
#
# Results: target/dist/. The programs are linked with this machine's glibc: they run on the same or a newer release of Debian.
# A static build needs the musl target and its C compiler (aws-lc is C): `rustup target add x86_64-unknown-linux-musl`,
# `apt-get install musl-tools cmake`, then QUORATE_TARGET=x86_64-unknown-linux-musl deploy/build.sh.
set -eu
cd "$(dirname "$0")/.."
build=yes
[ "${1:-}" = --no-build ] && build=no
target=${CARGO_TARGET_DIR:-target}
release=$target/release
# The package metadata names this folder, wherever cargo builds.
dist=target/dist
if [ -n "${QUORATE_TARGET:-}" ]; then
    release=$target/$QUORATE_TARGET/release
fi
if [ "$build" = yes ]; then
    if [ -n "${QUORATE_TARGET:-}" ]; then
        cargo build --locked --release --target "$QUORATE_TARGET"
    else
        cargo build --locked --release
    fi
fi
for program in quorate quorate-agent quorate-helper quorate-coordinator; do
    [ -x "$release/$program" ] || { echo "error: $release/$program is missing: run without --no-build" >&2; exit 1; }
done

rm -rf "$dist"
mkdir -p "$dist/completions"
"$release/quorate" completion bash >"$dist/completions/quorate.bash"
"$release/quorate" completion zsh >"$dist/completions/_quorate"
"$release/quorate" completion fish >"$dist/completions/quorate.fish"

# The date of the commit, so that the same commit gives the same packages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
date=$(date -u -R -d "@$SOURCE_DATE_EPOCH")
for package in quorate quorate-agent quorate-coordinator; do
    sed "s/@PACKAGE@/$package/; s/@VERSION@/$version-1/; s/@DATE@/$date/" deploy/debian/changelog.in \
        >"$dist/$package.changelog"
done
cargo metadata --locked --format-version 1 | python3 deploy/sbom.py "$version" >"$dist/sbom.json"

for crate in quorate-cli quorate-agent quorate-coordinator; do
    cargo deb --no-build --no-strip -p "$crate" --output "$dist/" ${QUORATE_TARGET:+--target "$QUORATE_TARGET"}
done

arch=$(uname -m)
linked=glibc
if ! ldd "$release/quorate-agent" >/dev/null 2>&1; then
    linked=static
fi
name=quorate-$version-linux-$arch-$linked
stage=$dist/$name
mkdir -p "$stage/bin" "$stage/completions"
cp "$release/quorate" "$release/quorate-agent" "$release/quorate-helper" "$release/quorate-coordinator" "$stage/bin/"
cp "$dist"/completions/* "$stage/completions/"
cp -R deploy/systemd deploy/config deploy/prometheus deploy/grafana deploy/guide deploy/examples "$stage/"
cp LICENSE LICENSE-APACHE LICENSE-MIT README.md CHANGELOG.md "$dist/sbom.json" "$stage/"
tar -C "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -czf "$dist/$name.tar.gz" "$name"
rm -rf "$stage"
(cd "$dist" && sha256sum -- *.deb *.tar.gz >SHA256SUMS && cat SHA256SUMS)
[ "$linked" = static ] || echo "note: the programs need glibc; $name is not a static tarball" >&2
