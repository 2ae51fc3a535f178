# What the scripts of this folder share; sourced, never run. Reads the pair's settings and refuses to guess.
#
# PGDATA     the data folder
# PGCONF     where postgresql.conf lies [PGDATA]
# PGBIN      where the programs of this major version lie [/usr/lib/postgresql/15/bin]
# PGHOST     the folder of the server's socket [/var/run/postgresql]
# PGPORT     its port [5432]
# PGOWNER    the account that it runs as [postgres]
# NODE       what Quorate calls this host
# PEER       how to reach the other server as a superuser, or as a role that may rewind and stream: "host=… port=… user=…"
# KEEP       what is kept of a former primary before it is rewound: `data` (all of it) or `wal` (only what it wrote) [data]
set -eu

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

settings=${1:-/etc/quorate/postgresql.env}
[ -r "$settings" ] || die "cannot read $settings"
# shellcheck source=/dev/null
. "$settings"
: "${PGDATA:?$settings must say where the data folder is}" "${NODE:?$settings must say what this host is called}"
: "${PGCONF:=$PGDATA}" "${PGBIN:=/usr/lib/postgresql/15/bin}" "${PGHOST:=/var/run/postgresql}" "${PGPORT:=5432}"
: "${PGOWNER:=postgres}" "${PEER:=}" "${KEEP:=data}"
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C
# A half made standby: whoever finds it must not start the server. Outside of the data folder, which is replaced.
rejoining=$PGDATA.rejoining
cd /

# As the account that the server runs as, where we are root. A probe is not root: it asks as who it is.
own() {
    if [ "$(id -u)" = 0 ]; then runuser -u "$PGOWNER" -- "$@"; else "$@"; fi
}

# One answer of the server here.
ask() {
    own "$PGBIN/psql" -XAtq -v ON_ERROR_STOP=1 -h "$PGHOST" -p "$PGPORT" -d postgres -c "$1"
}

# Whether a server runs on the data folder.
runs() { own "$PGBIN/pg_ctl" status -D "$PGDATA" >/dev/null 2>&1; }
