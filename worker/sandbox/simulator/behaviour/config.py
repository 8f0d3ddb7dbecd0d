"""How the simulator behaves: one field for each point that Telnyx does not document.

Each such field is marked UNCERTAIN and says what its values mean. Its default is the pessimistic
reading, the one that costs a client most; where that would make the service impossible, the
docstring says why another one was taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

from worker.sandbox.simulator.behaviour.plans import FAULTS

ErrorShape: TypeAlias = Literal["classic", "detail", "gateway"]
"""`{"errors": [...]}`, `{"detail": "..."}`, or both `{"error": {...}}` and `{"errors": [...]}`."""

MODELS = (
    "zai-org/GLM-5.3-Flash",
    "zai-org/GLM-5.3",
    "zai-org/GLM-5.1-FP8",
    "moonshotai/Kimi-K2.6",
    "Qwen/Qwen3.8-27B",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """Everything that can be set before or, by `reconfigure`, while it runs. Times in seconds."""

    api_key: str = "KEY-simulated"
    lock_controls: bool = False
    """Whether the controls under /sim want the key, too."""
    seed: int = 0
    """Of latencies and of faults by chance. Ids are always fresh: a restart must repeat none."""

    latency_s: float = 0.0
    """Median time of a model run."""
    latency_sigma: float = 0.0
    """Spread of a log-normal around the median; 0 = every run takes exactly `latency_s`."""
    latency_max_s: float = 600.0
    other_latency_s: float = 0.0
    """Time of every request that runs no model."""
    fault_chances: Mapping[str, float] = field(default_factory=dict)
    """Name of a fault -> probability that it hits a request of its endpoint, see `plans.FAULTS`."""

    models: tuple[str, ...] = MODELS
    reasoning: bool = True
    """Whether outputs begin with a reasoning item."""
    show_prefix: bool = True
    """Whether replies end with `[prefix:...]`, which tests need and a demo may not want."""

    put_metadata: Literal["replace", "merge"] = "replace"
    """UNCERTAIN: `replace` loses every key that the PUT left out."""
    metadata_max_keys: int = 16
    """UNCERTAIN: more keys are a 422. The number is OpenAI's, as are the next two."""
    metadata_max_key_length: int = 64
    """UNCERTAIN: a longer key is a 422."""
    metadata_max_value_length: int = 512
    """UNCERTAIN: a longer value is a 422."""
    metadata_keys: Literal["word", "any"] = "word"
    """UNCERTAIN: `word` allows letters, digits and `_`, as in Telnyx's own keys; else 422."""
    metadata_values: Literal["strings", "coerced"] = "strings"
    """UNCERTAIN: `strings` refuses other values with 422, as the schema says, and so a boolean
    `ai_disabled`, as the prose says; `coerced` stores a number or a boolean as its JSON text."""
    created_wrapped: bool = False
    """UNCERTAIN: whether creating answers `{"data": {...}}` like the other calls. Both of Telnyx's
    descriptions show the bare object; somebody's client reads both."""

    list_default_limit: int = 20
    """UNCERTAIN: how many conversations are listed without `limit`."""
    list_max_limit: int = 100
    """UNCERTAIN: a larger `limit` is cut to this without a word."""
    list_visible_after_s: float = 1.0
    """UNCERTAIN: a new conversation is not listed before; 0 = at once."""
    bad_filter: Literal["error", "empty", "unfiltered"] = "error"
    """UNCERTAIN: what `metadata->>key`, an unknown column or operator gives. `unfiltered` (the
    filter is ignored) is the dangerous one; `error` (422) is the default so that tests notice."""
    postgrest_operators: bool = False
    """UNCERTAIN: whether `neq`, `in`, `is` and `ilike` work, which only PostgREST's page shows."""
    postgrest_quotes: bool = False
    """UNCERTAIN: whether double quotes around a value keep a comma together in `or` and `in`."""

    messages_order: Literal["newest_first", "oldest_first", "shuffled"] = "newest_first"
    """UNCERTAIN: the order of a thread's listing. `shuffled` is stable while nothing is added."""
    messages_stale_s: float = 0.0
    """The last seconds that listings of messages omit. Staleness there is a fault, not a doubt."""
    timestamp_digits: int = 6
    """Digits of a second in a message's times; 0 makes ties, as in Telnyx's own example."""
    instructions_listed: Literal["hidden", "system", "user"] = "system"
    """UNCERTAIN: how `instructions` appear in the thread, again at each request that has them.
    `system` is a role outside of Telnyx's documented ones; `user` leaves no client a way to count
    what the user said, so it is no default."""
    instructions_repeated: bool = True
    """UNCERTAIN: whether a thread that has these instructions already gets them again."""
    reasoning_listed: Literal["hidden", "empty", "text"] = "empty"
    """UNCERTAIN: how reasoning appears: not, as an assistant message with a null text, or with its
    text. The last cannot be told from a reply by any client, so it is no default."""
    tool_call_id_listed: bool = False
    """UNCERTAIN: whether a listed tool message says which call it answers."""
    text_kept: bool = True
    """False: a stored text has its ends trimmed and its runs of white space collapsed."""
    part_separator: str = " "
    """UNCERTAIN: what stands between the text parts of one item in the listing."""
    image_listed_as: str = ""
    """UNCERTAIN: what stands in the listing for an image."""

    unknown_conversation_status: Literal[404, 422, 400] = 404
    """UNCERTAIN: a response on a conversation that is not there."""
    undocumented_fields: Literal["honoured", "ignored", "refused"] = "honoured"
    """UNCERTAIN: what a request's fields outside of Telnyx's schema do, `tools` above all.
    `ignored` (no tool is ever called) and `refused` (422) would make tools impossible."""
    answer_fields: Literal["whole", "bare"] = "whole"
    """UNCERTAIN: whether a response has all that OpenAI's types want. `bare` leaves `usage`,
    `created_at`, `tools` and the like out; "OpenAI-compatible" promises them, hence the default."""
    unavailable_model_status: Literal[400, 404, 422] = 400
    """UNCERTAIN: a model that is not offered (any more). 400 looks like the message's own fault."""
    input_stored: Literal["on_arrival", "with_output"] = "on_arrival"
    """UNCERTAIN: `on_arrival` lets a reader see a user item that is not answered yet."""
    concurrent_requests: Literal["interleave", "serialize", "conflict"] = "interleave"
    """UNCERTAIN: two at once on a conversation: mixed up, one after the other, or 409."""
    strict_tool_calls: bool = True
    """UNCERTAIN: 400 where a request leaves a call of the thread unanswered, or answers one that is
    not there, as at OpenAI."""
    ai_disabled_blocks_responses: bool = True
    """UNCERTAIN: 400 on a conversation whose metadata say `ai_disabled: true`."""
    echo_conversation: bool = False
    """UNCERTAIN: whether an answer names its conversation."""
    request_id_header: bool = True
    """UNCERTAIN: whether each answer has `x-request-id`; documented for a sibling product."""
    ai_error_shape: ErrorShape = "detail"
    """UNCERTAIN: the errors of the AI service itself. `detail` has no code. 401, 404 of a route and
    429 are documented and always classic; validation is always FastAPI's list."""
    fault_error_shape: ErrorShape = "classic"
    """UNCERTAIN: the errors that faults play, which tests want with a code."""
    max_body_bytes: int = 1_048_576
    """UNCERTAIN: a larger request is a 413."""
    context_tokens: int = 202_752
    """A longer history is refused. Tokens are counted as four characters each."""
    context_full_status: Literal[400, 413, 422] = 400
    """UNCERTAIN: how it is refused."""
    edge_timeout_s: float | None = 60.0
    """UNCERTAIN: a model run that takes longer is answered 504 with HTML by the edge, and still
    runs to its end; None = no limit."""
    idempotency_ttl_s: float = 86_400.0
    """How long an answer is replayed."""
    stream_done_marker: bool = False
    """UNCERTAIN: whether a stream ends with `data: [DONE]`."""

    webhook_url: str | None = None
    """The messaging profile's URL for message events; None = they go nowhere."""
    webhook_failover_url: str | None = None
    """Tried after `webhook_url` has failed for good."""
    webhook_remote: bool = False
    """Whether events may leave this machine; otherwise only loopback addresses are called."""
    webhook_timeout_s: float = 2.0
    """Within it a receiver has to answer with a 2xx."""
    webhook_attempts: int = 3
    """For each of the two URLs."""
    webhook_backoff_s: float = 0.5
    """UNCERTAIN: the wait before the second attempt; it doubles each time."""
    webhook_copies: int = 2
    """How often each event is delivered, failures apart: Telnyx says at least once."""
    webhook_success: Literal["200", "2xx"] = "200"
    """UNCERTAIN: whether any other 2xx counts as a failure, as error 75299 says."""
    status_order: Literal["random", "reversed", "in_order"] = "random"
    """Of `message.sent` and `message.finalized`, whose order Telnyx does not promise."""
    delivery_s: float = 0.02
    """From a sent text message to its final status."""
    opted_out_status: Literal[403, 400, 422] = 403
    """UNCERTAIN: of a message to somebody who sent STOP. 403 looks like the account's fault."""
    bad_number_status: Literal[422, 400] = 422
    """UNCERTAIN: of a message to what is no number."""
    bad_number_code: Literal["40310", "10002"] = "40310"
    """UNCERTAIN: 40310 is documented, 10002 was seen."""
    spend_limit_reached: bool = False
    """The profile has spent what it may today: every message is a 429 with 40333."""
    profile: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the messaging profile that differ from those of a good one."""
    profile_numbers: tuple[str, ...] = ("+13125550100",)
    """Numbers of ours that belong to the profile."""
    profile_keywords: tuple[str, ...] = ()
    """Keywords that were added to Telnyx's own for opting out."""
    campaign_status: str | None = "ASSIGNED"
    """Of those numbers at the US registry; None = they are in no campaign."""
    keyword_match: Literal["first_word", "whole", "exact"] = "first_word"
    """UNCERTAIN: what counts as STOP: a first word, a whole message, or one in capitals only."""

    def __post_init__(self) -> None:
        """Refuse chances of faults that do not exist."""
        if unknown := self.fault_chances.keys() - FAULTS.keys():
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")


_ADAPTER = TypeAdapter(SimulatorConfig)


def changed(config: SimulatorConfig, changes: Mapping[str, object]) -> SimulatorConfig:
    """Return `config` with `changes`; ValueError on an unknown field or a value it cannot have."""
    known = {each.name: getattr(config, each.name) for each in fields(config)}
    if unknown := changes.keys() - known.keys():
        raise ValueError(f"no such setting: {', '.join(sorted(unknown))}")
    return _ADAPTER.validate_python({**known, **changes})
