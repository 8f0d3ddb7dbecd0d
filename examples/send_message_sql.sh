#!/bin/sh
# Send one message to the service with psql alone. The envelope is JSON on stdin:
#
#   echo '{"version": 1, "channel": "web", "user": "visitor-1", "message_id": "1", "text": "Hi"}' |
#       DATABASE_URL=postgresql://worker_producer@localhost/worker sh send_message_sql.sh
#
# Prints the id of the row in `inbox`. Exits with a code other than 0 if Postgres did not confirm: in
# that case send it again, with the same message_id, unless the error names a field of the envelope.
set -eu

exec 3<&0 # psql reads its commands from stdin; arguments would be visible in the list of processes
PGCLIENTENCODING=UTF8 psql -X -q -A -t -v ON_ERROR_STOP=1 -v VERBOSITY=terse "$DATABASE_URL" <<'SQL'
\set envelope `cat <&3`
SELECT enqueue_message(:'envelope');
SQL
