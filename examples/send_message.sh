#!/bin/sh
# Send one message to the service with redis-cli alone. The envelope is JSON on stdin:
#
#   echo '{"version": 1, "channel": "web", "user": "visitor-1", "message_id": "1", "text": "Hi"}' |
#       BROKER_URL=redis://localhost:6379/0 sh send_message.sh
#
# Exits with 1 if Redis did not confirm: in that case send it again, with the same message_id.
set -eu

body=$({ printf '[[],{"envelope":'; cat; printf '},{}]'; } | base64 | tr -d '\n')
id=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')

# Over stdin (-x): arguments would be visible in the list of processes.
answer=$(
    printf '{"body":"%s","content-type":"application/json","content-encoding":"utf-8",
"headers":{"lang":"sh","task":"messages.receive","id":"%s"},
"properties":{"delivery_tag":"%s","delivery_mode":2,"body_encoding":"base64",
"delivery_info":{"exchange":"","routing_key":"inbound"}}}' "$body" "$id" "$id" |
        redis-cli -u "$BROKER_URL" -x LPUSH inbound 2>/dev/null
) || answer=none

case $answer in
'' | *[!0-9]*)
    echo "not confirmed: send it again, that is safe" >&2
    exit 1
    ;;
esac
