"""Text messages at Telnyx: the messaging profile, its numbers, keywords and campaigns. Reads only.

These checks are made if a channel has the driver of SMS.
"""

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from worker.cli.doctor.check_telnyx import opened
from worker.cli.doctor.examine import Setup
from worker.domain.errors import NotFoundError
from worker.domain.reports.finding import Finding, fault, ok, warning
from worker.domain.ways_out import TelnyxDelivery
from worker.telnyx.answers.answer import read_object
from worker.telnyx.answers.classify import list_of
from worker.telnyx.answers.rows import rows_of
from worker.telnyx.http.connection_per_thread import ConnectionPerThread

_PROFILES: Final = "/messaging_profiles"
_PAGE: Final = "?page%5Bsize%5D=100"
_MISSING_AT_TELNYX: Final = ("REVOKE", "OPT OUT", "OPTOUT")
"""47 CFR 64.1200(a)(10) names them, Telnyx's own keywords do not have them."""
_SHOWN: Final = 20

Row = Mapping[str, object]


def profile(setup: Setup) -> Finding:
    """Check the settings of the profile that decide whether messages come in and go out."""
    with opened(setup) as http:
        found = _profile(setup, http)
    url = f"{setup.settings.public_url}/telnyx/messaging"
    if not found.get("enabled"):
        return fault("the messaging profile is disabled", "enable it in Telnyx's portal")
    if found.get("webhook_api_version") != "2":
        return fault("its webhooks are not of API version 2", "set webhook_api_version to 2")
    if found.get("ai_assistant_id") is not None:
        return fault(
            "an AI assistant of Telnyx answers too: people get two replies",
            "set ai_assistant_id of the profile to null",
        )
    if found.get("webhook_url") != url:
        fix = "set webhook_url of the profile to PUBLIC_URL and /telnyx/messaging"
        return fault("its webhooks do not lead to the gateway of PUBLIC_URL", fix)
    if not found.get("whitelisted_destinations"):
        return fault("no country is allowed", "fill whitelisted_destinations of the profile")
    if found.get("daily_spend_limit_enabled"):
        return warning(
            "a daily spend limit: once it is reached, nothing goes out until midnight UTC",
            "watch the gate telnyx:… with the reason spend_limit, or raise the limit",
        )
    return ok("enabled, its webhooks lead to the gateway")


def public_key(setup: Setup) -> Finding:
    """Check that webhooks are verified with the key that Telnyx signs with."""
    with opened(setup) as http:
        data = (read_object(http.call("read key", "GET", "/public_key").body) or {}).get("data")
    theirs = data.get("public") if isinstance(data, dict) else None
    ours = (setup.settings.telnyx_public_key or "").split()
    if not ours:
        return ok("the gateway fetches it at its start")
    if theirs in ours:
        return ok("TELNYX_PUBLIC_KEY has it")
    fix = "put Telnyx's key of today before the old one, separated by a space"
    return fault("TELNYX_PUBLIC_KEY is not the key that Telnyx signs with", fix)


def numbers(setup: Setup) -> Finding:
    """Check that the profile has numbers, among them those that the agents file names."""
    with opened(setup) as http:
        ours = _numbers(http, _profile(setup, http))
    if not ours:
        return fault("no number belongs to the profile", "assign one in Telnyx's portal")
    policy = setup.routing.telnyx_policy()
    named = set(policy.recipient_agents) if policy else set()
    if missing := len(named - ours):
        return fault(
            f"{missing} of the numbers in channels.{policy.name if policy else ''}.recipients"
            " are not among its numbers",
            "assign them to the profile",
        )
    return ok(f"{len(ours)} belong to the profile")


def keywords(setup: Setup) -> Finding:
    """Check that Telnyx itself recognises the keywords that the law names."""
    with opened(setup) as http:
        found = _profile(setup, http)
        path = f"{_PROFILES}/{_id(found)}/autoresp_configs"
        rows = rows_of("list keywords", http.call("list keywords", "GET", path + _PAGE))
    known = {
        str(word).upper()
        for row in rows
        if row.get("op") == "stop"
        for word in list_of(row.get("keywords"))
    }
    missing = [word for word in _MISSING_AT_TELNYX if word not in known]
    if not missing:
        return ok("REVOKE and OPT OUT are known to Telnyx")
    document = {
        "op": "stop",
        "keywords": missing,
        "resp_text": "You have been unsubscribed and will get no more messages.",
        "country_code": "*",
    }
    return warning(
        f"Telnyx does not block after {', '.join(missing)}; the service alone does",
        f"curl -X POST {setup.settings.telnyx_base_url}{path}"
        ' -H "Authorization: Bearer $TELNYX_API_KEY" -H "Content-Type: application/json"'
        f" -d '{json.dumps(document)}'",
    )


def campaign(setup: Setup) -> Finding:
    """Check that US numbers are registered: carriers block messages of others."""
    with opened(setup) as http:
        found = _numbers(http, _profile(setup, http))
        american = sorted(one for one in found if one.startswith("+1") and len(one) == 12)[:_SHOWN]  # noqa: PLR2004 - +1 and ten digits
        outside = [one for one in american if not _registered(http, one)]
    if not outside:
        return ok(f"{len(american)} numbers of +1 are registered")
    return warning(
        f"{len(outside)} of {len(american)} numbers of +1 are in no campaign",
        "assign them to a 10DLC campaign; toll-free numbers need a verification instead",
    )


def _registered(http: ConnectionPerThread, number: str) -> bool:
    path = f"/10dlc/phone_number_campaigns/{quote(number, safe='')}"
    try:
        answer = http.call("read campaign", "GET", path)
    except NotFoundError:
        return False
    row = read_object(answer.body) or {}
    data = row.get("data")
    return (data if isinstance(data, dict) else row).get("assignmentStatus") == "ASSIGNED"


def _profile(setup: Setup, http: ConnectionPerThread) -> Row:
    """Return the channel's profile, or else the one that leads here, or the only one."""
    policy = setup.routing.telnyx_policy()
    way = policy.delivery if policy else None
    what = "read messaging profiles"
    rows = rows_of(what, http.call(what, "GET", _PROFILES + _PAGE))
    if isinstance(way, TelnyxDelivery) and way.profile_id is not None:
        return next((one for one in rows if one.get("id") == way.profile_id), {})
    url = f"{setup.settings.public_url}/telnyx/messaging"
    here = [one for one in rows if one.get("webhook_url") == url]
    return (here or rows or [{}])[0]


def _numbers(http: ConnectionPerThread, found: Row) -> set[str]:
    what = "list numbers"
    path = f"{_PROFILES}/{_id(found)}/phone_numbers{_PAGE}"
    return {str(row.get("phone_number")) for row in rows_of(what, http.call(what, "GET", path))}


def _id(found: Row) -> str:
    return quote(str(found.get("id")), safe="")
