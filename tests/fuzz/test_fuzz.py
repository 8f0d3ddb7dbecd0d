"""Every input ends as a row with a reason, or is ignored with a counter; nothing else happens."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import pytest

from tests.fuzz.answers import (
    telnyx_answers,
    telnyx_logs,
    telnyx_streams,
    webhook_answers,
)
from tests.fuzz.harness import Kind, run
from tests.fuzz.intake import control_messages, queue_entries, sql_envelopes
from tests.fuzz.screening import screened_texts
from tests.fuzz.webhooks import telnyx_webhooks
from tests.support.world import World

KINDS: Mapping[str, Callable[[World], AbstractContextManager[Kind]]] = {
    "queue_entries": queue_entries,
    "sql_envelopes": sql_envelopes,
    "control": control_messages,
    "telnyx_answers": telnyx_answers,
    "telnyx_streams": telnyx_streams,
    "telnyx_logs": telnyx_logs,
    "webhook_answers": webhook_answers,
    "screened_texts": screened_texts,
    "telnyx_webhooks": telnyx_webhooks,
}
ASKED = os.environ.get("FUZZ_KIND")


@pytest.mark.timeout(0 if "FUZZ_N" in os.environ else 300)
@pytest.mark.parametrize("kind", [ASKED] if ASKED else KINDS)
def test_whatever_comes_in_has_an_end(kind: str, world: World) -> None:
    outcomes = run(kind, KINDS[kind](world))
    print(f"{kind}: {dict(outcomes)}")  # `make fuzz` shows it
