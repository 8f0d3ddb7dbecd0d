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

# Arguments are visible in the list of processes: so the password goes by the environment, and the
# message over stdin (-x).
decoded() { # %2F and the like, as URLs spell what is not a letter or a digit
    printf '%s' "$1" | LC_ALL=C awk '
        BEGIN { for (i = 1; i < 256; i++) code[sprintf("%02X", i)] = i }
        { while (match($0, /%[0-9A-Fa-f][0-9A-Fa-f]/)) {
              printf "%s%c", substr($0, 1, RSTART - 1), code[toupper(substr($0, RSTART + 1, 2))]
              $0 = substr($0, RSTART + 3) }
          printf "%s", $0 }'
}
url=${BROKER_URL#*://} login=
case $url in *@*) login=${url%@*} url=${url##*@} ;; esac
address=${url%%[/?]*}
database=${url#"$address"} database=${database%%\?*} database=${database#/}
set -- -h "${address%:*}" -n "${database:-0}"
case $address in *:*) set -- "$@" -p "${address##*:}" ;; esac
case $BROKER_URL in rediss://*) set -- "$@" --tls ;; esac
case ${login%%:*} in ?*) set -- "$@" --user "$(decoded "${login%%:*}")" ;; esac
case $login in *:*) REDISCLI_AUTH=$(decoded "${login#*:}") && export REDISCLI_AUTH ;; esac

answer=$(
    printf '{"body":"%s","content-type":"application/json","content-encoding":"utf-8",
"headers":{"lang":"sh","task":"messages.receive","id":"%s"},
"properties":{"delivery_tag":"%s","delivery_mode":2,"body_encoding":"base64",
"delivery_info":{"exchange":"","routing_key":"inbound"}}}' "$body" "$id" "$id" |
        redis-cli "$@" -x LPUSH inbound 2>/dev/null
) || answer=none

case $answer in
'' | *[!0-9]*)
    echo "not confirmed: send it again, that is safe" >&2
    exit 1
    ;;
esac
