"""The one messaging profile: its settings, numbers and keywords, and who has opted out of it."""

from datetime import UTC, datetime
from urllib.parse import unquote

from worker.sandbox.simulator.endpoints.answers import Answer, declined, ok
from worker.sandbox.simulator.record.sms import ORGANIZATION_ID, PROFILE_ID
from worker.sandbox.simulator.record.values import Json, timestamp
from worker.sandbox.simulator.state.state import Exchange, State

_SINCE = timestamp(datetime(2026, 1, 1, tzinfo=UTC), 3)
_CAMPAIGNS = "10dlc"


def show(state: State, exchange: Exchange) -> Answer:
    """GET /messaging_profiles[/{id}[/phone_numbers|/autoresp_configs]] and a number's campaign."""
    _, _, root, *rest = exchange.path.partition("?")[0].split("/")
    if root == _CAMPAIGNS:
        return _campaign(state, unquote(rest[-1]))
    if not rest:
        return _listed(exchange, [_profile(state)])
    if rest[0] != PROFILE_ID:
        return declined("10005", 404, "The messaging profile could not be found.", "/id")
    match rest[1:]:
        case ["phone_numbers"]:
            numbers = state.config.profile_numbers
            return _listed(exchange, [_number(number) for number in numbers])
        case ["autoresp_configs"]:
            words = list(state.config.profile_keywords)
            return _listed(exchange, [_keywords(words)] if words else [])
        case _:
            return ok({"data": _profile(state)})


def opt_outs(state: State, exchange: Exchange) -> Answer:
    """GET /messaging_optouts."""
    query = dict(exchange.query)
    rows = [
        {
            "from": one.ours,
            "to": one.number,
            "keyword": one.keyword,
            "messaging_profile_id": PROFILE_ID,
            "created_at": timestamp(one.at, 3) if one.at else None,
        }
        for one in state.sms.opt_outs()
    ]
    since, until = query.get("created_at[gte]"), query.get("created_at[lte]")
    kept = [
        row
        for row in rows
        if query.get("filter[from]", row["from"]) == row["from"]
        and query.get("filter[messaging_profile_id]", PROFILE_ID) == PROFILE_ID
        and (since is None or str(row["created_at"]) >= since)
        and (until is None or str(row["created_at"]) <= until)
    ]
    return _listed(exchange, kept)


def _profile(state: State) -> Json:
    config = state.config
    good = {
        "id": PROFILE_ID,
        "record_type": "messaging_profile",
        "organization_id": ORGANIZATION_ID,
        "name": "simulated",
        "enabled": True,
        "webhook_url": config.webhook_url,
        "webhook_failover_url": config.webhook_failover_url,
        "webhook_api_version": "2",
        "ai_assistant_id": None,
        "whitelisted_destinations": ["*"],
        "daily_spend_limit": None,
        "daily_spend_limit_enabled": False,
        "smart_encoding": False,
        "features": {"ai_opt_out_detection_enabled": False},
        "created_at": _SINCE,
        "updated_at": _SINCE,
    }
    return {**good, **config.profile}


def _number(number: str) -> Json:
    return {
        "id": number,
        "record_type": "messaging_phone_number",
        "phone_number": number,
        "messaging_profile_id": PROFILE_ID,
        "country_code": "US",
        "type": "long-code",
        "messaging_product": "A2P",
        "created_at": _SINCE,
        "updated_at": _SINCE,
    }


def _keywords(words: list[str]) -> Json:
    return {
        "id": "8d1bd7b3-6ef9-4bf3-9f6d-5f0f5c4a5c11",
        "op": "stop",
        "keywords": words,
        "country_code": "*",
        "resp_text": "You have been unsubscribed.",
        "created_at": _SINCE,
        "updated_at": _SINCE,
    }


def _campaign(state: State, number: str) -> Answer:
    status = state.config.campaign_status
    if status is None or number not in state.config.profile_numbers:
        return declined("10005", 404, "The number is in no campaign.", "/phoneNumber")
    return ok(
        {
            "phoneNumber": number,
            "campaignId": "C-SIM",
            "assignmentStatus": status,
            "createdAt": _SINCE,
            "updatedAt": _SINCE,
        }
    )


def _listed(exchange: Exchange, rows: list[Json]) -> Answer:
    query = dict(exchange.query)
    size = _whole(query.get("page[size]"), 20, most=250)
    number = _whole(query.get("page[number]"), 1, most=1_000_000)
    meta = {
        "total_pages": -(-len(rows) // size),
        "total_results": len(rows),
        "page_number": number,
        "page_size": size,
    }
    return ok({"data": rows[(number - 1) * size : number * size], "meta": meta})


def _whole(text: str | None, usual: int, *, most: int) -> int:
    return min(max(int(text), 1), most) if text and text.isdecimal() else usual
