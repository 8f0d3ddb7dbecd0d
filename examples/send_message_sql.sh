#!/bin/sh
# Send one message to the service with psql alone. The envelope is JSON on stdin:
#
#   echo '{"version": 1, "channel": "web", "user": "visitor-1", "message_id": "1", "text": "Hi"}' |
#       DATABASE_URL=postgresql://worker_producer@localhost/worker sh send_message_sql.sh
#
# Prints the id of the row in `inbox`. Ends with another code than 0 when Postgres did not confirm:
# then send it again, with the same message_id, unless it says what is wrong with the envelope.
set -eu

exec 3<&0 # psql reads its commands from stdin; the list of processes would show arguments
PGCLIENTENCODING=UTF8 psql -X -q -A -t -v ON_ERROR_STOP=1 -v VERBOSITY=terse "$DATABASE_URL" <<'SQL'
\set envelope `cat <&3`
SELECT enqueue_message(:'envelope');
SQL
