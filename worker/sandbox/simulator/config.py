"""How the simulator behaves: one field for each point that Telnyx does not document.

Each such field is marked UNCERTAIN and says what its values mean. Its default is the pessimistic
reading, the one that costs a client most; where that would make the service impossible, the
docstring says why another one was taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

from pydantic import TypeAdapter

from worker.sandbox.simulator.plans import FAULTS

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
    """UNCERTAIN, as is the next one; more is a 422. The numbers are OpenAI's."""
    metadata_max_value_length: int = 512

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
    stream_done_marker: bool = False
    """UNCERTAIN: whether a stream ends with `data: [DONE]`."""

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
