"""One valid document for each schema of the contract; tests spoil copies of them."""

from typing import Any, Final

ID: Final = "6a09cdc3-8948-47f0-aa62-74ac943d6c58"
AT: Final = "2026-10-21T13:07:28.764000Z"
CONVERSATION = {
    "id": ID,
    "created_at": AT,
    "last_message_at": AT,
    "metadata": {"channel": "sms"},
    "name": "",
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGE = {"role": "user", "text": "Hi", "created_at": AT, "sent_at": AT, "tool_calls": [CALL]}
PAGE = {"total_pages": 1, "total_results": 1, "page_number": 1, "page_size": 20}
TEXT_PART = {"type": "output_text", "text": "Hi", "annotations": []}
SAID = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [TEXT_PART],
}
USAGE = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 5,
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1792588142,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": "a/b",
    "output": [SAID],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": USAGE,
}
ENTRY = {
    "code": "10005",
    "title": "Not found",
    "detail": "x",
    "source": {"pointer": "/to", "parameter": None},
    "meta": {"url": "https://developers.telnyx.com/x"},
}
ASKED = {
    "model": "a/b",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hi"},
                {"type": "input_image", "image_url": "https://example.com/a.png"},
            ],
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "x"},
    ],
    "conversation": ID,
    "instructions": "Be kind.",
    "stream": True,
    "tools": [
        {
            "type": "function",
            "name": "f",
            "description": "",
            "strict": False,
            "parameters": {"type": "object"},
        }
    ],
    "reasoning": {"effort": "low"},
    "region": "EU",
    "mode": "strict",
    "service_tier": "default",
    "max_output_tokens": 10,
    "temperature": 0.5,
    "tool_choice": "auto",
}
SMS = {
    "record_type": "message",
    "direction": "inbound",
    "id": ID,
    "type": "MMS",
    "messaging_profile_id": ID,
    "organization_id": ID,
    "from": {"phone_number": "+13125550001", "carrier": "", "line_type": ""},
    "to": [{"phone_number": "+13125550100", "status": "sent", "carrier": "", "line_type": ""}],
    "cc": [],
    "text": "Hi",
    "media": [{"url": "https://a/b", "content_type": "image/png", "sha256": None, "size": 1}],
    "parts": 1,
    "encoding": "GSM-7",
    "cost": {"amount": "0.0040", "currency": "USD"},
    "tags": [],
    "errors": [ENTRY],
    "webhook_url": None,
    "webhook_failover_url": None,
    "received_at": AT,
    "sent_at": AT,
    "completed_at": None,
    "valid_until": None,
    "wait_seconds": 0.0,
    "autoresponse_type": "STOP",
}
MODEL = {
    "id": "a/b",
    "object": "model",
    "created": AT,
    "owned_by": "Telnyx",
    "organization": "a",
    "license": "MIT",
    "languages": ["en"],
    "parameters": 1,
    "context_length": 1,
    "tier": "small",
    "max_completion_tokens": None,
    "service_tiers": ["default"],
    "pricing": {"prompt": "0.1", "completion": "0.4", "currency": "USD", "unit": "1M_tokens"},
}

VALID: dict[str, Any] = {
    "conversation": CONVERSATION,
    "conversation_wrapped": {"data": CONVERSATION},
    "conversation_list": {"data": [CONVERSATION]},
    "create_conversation": {"name": "n", "metadata": {"channel": "sms"}},
    "update_conversation": {"metadata": {"channel": "sms"}},
    "list_conversations": {"metadata->a": "eq.b", "order": "created_at.asc", "limit": "100"},
    "message": MESSAGE,
    "message_list": {"data": [MESSAGE], "meta": PAGE},
    "list_messages": {"page[size]": "100", "page[number]": "2"},
    "add_message": {"role": "user", "content": "Hi", "sent_at": AT, "metadata": {"n": 1}},
    "response_request": ASKED,
    "output_item": SAID,
    "output_part": TEXT_PART,
    "response": RESPONSE,
    "stream_event": {"type": "response.completed", "sequence_number": 8, "response": RESPONSE},
    "model_list": {"object": "list", "data": [MODEL]},
    "error_entry": ENTRY,
    "error_classic": {"errors": [ENTRY]},
    "error_detail": {"detail": "Conversation Not Found"},
    "error_validation": {"detail": [{"loc": ["body", 0], "msg": "no", "type": "value_error"}]},
    "error_gateway": {
        "error": {"message": "no", "type": "t", "param": None, "code": "10011"},
        "errors": [ENTRY],
    },
    "insight_list": {"data": [], "meta": {**PAGE, "total_pages": 0, "total_results": 0}},
    "insight_aggregates": {"data": []},
    "public_key": {"data": {"public": "A" * 43 + "="}},
    "text_message": SMS,
    "text_message_wrapped": {"data": SMS},
    "webhook": {
        "data": {
            "event_type": "message.received",
            "id": ID,
            "occurred_at": AT,
            "record_type": "event",
            "payload": SMS,
        },
        "meta": {"attempt": 1, "delivered_to": "http://127.0.0.1/x"},
    },
}
