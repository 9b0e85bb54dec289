set -eu

data=/var/lib/postgresql/data
as_postgres="setpriv --reuid=postgres --regid=postgres --init-groups"

if [ ! -s "$data/PG_VERSION" ]; then
    chown postgres:postgres "$data"
    printf %s "$POSTGRES_PASSWORD" | $as_postgres sh -c "cat > /tmp/password"
    $as_postgres initdb --pgdata "$data" --username "$POSTGRES_USER" --pwfile /tmp/password \
        --encoding UTF8 --locale C.UTF-8 \
        --auth-local trust --auth-host scram-sha-256
    echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
    rm /tmp/password
    # On the socket only, so that nobody finds the server before it has its database.
    $as_postgres pg_ctl --pgdata "$data" --options "-c listen_addresses=''" --wait start
    $as_postgres createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
    $as_postgres pg_ctl --pgdata "$data" --mode fast --wait stop
fi
exec $as_postgres postgres -D "$data" -c "listen_addresses=*"
