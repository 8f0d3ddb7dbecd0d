#!/bin/sh
# Send one message to the service with psql alone. The envelope is JSON on stdin:
#
#   echo '{"version": 1, "channel": "web", "user": "visitor-1", "message_id": "1", "text": "Hi"}' |
#       DATABASE_URL=postgresql://worker_producer@localhost/worker sh send_message_sql.sh
#
# Prints the id of the row in `inbox`. Exits with a code other than 0 if Postgres did not confirm: in
# that case send it again, with the same message_id, unless the error names a field of the envelope.
set -eu

# Arguments are visible in the list of processes: so the password goes by the environment.
decoded() { # %2F and the like, as URLs spell what is not a letter or a digit
    printf '%s' "$1" | LC_ALL=C awk '
        BEGIN { for (i = 1; i < 256; i++) code[sprintf("%02X", i)] = i }
        { while (match($0, /%[0-9A-Fa-f][0-9A-Fa-f]/)) {
              printf "%s%c", substr($0, 1, RSTART - 1), code[toupper(substr($0, RSTART + 1, 2))]
              $0 = substr($0, RSTART + 3) }
          printf "%s", $0 }'
}
rest=${DATABASE_URL#*://}
login=${rest%%[/?]*}
case $login in
*:*@*)
    password=${login%@*}
    PGPASSWORD=$(decoded "${password#*:}") && export PGPASSWORD
    DATABASE_URL=${DATABASE_URL%%://*}://${login%%:*}@${login##*@}${rest#"$login"}
    ;;
esac

# The envelope goes over stdin into a temporary table, as one line: in the text of a statement it
# would stand in Postgres's log. JSON has none of the characters that COPY is told to look for.
{
    tr '\r\n' '  '
    echo
} | PGCLIENTENCODING=UTF8 psql -X -q -A -t -v ON_ERROR_STOP=1 -v VERBOSITY=terse \
    -c 'CREATE TEMPORARY TABLE envelope (content text)' \
    -c "\\copy envelope FROM pstdin (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02', FORCE_NOT_NULL (content))" \
    -c 'SELECT enqueue_message(content::jsonb) FROM envelope' "$DATABASE_URL"
