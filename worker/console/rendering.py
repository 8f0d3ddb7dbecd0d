"""Pages out of templates. Every value is escaped: people may write what looks like a page."""

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from worker.domain.reports.times import clock, span

FOLDER: Final = Path(__file__).parent
FILES: Final = {
    "console.css": ("text/css; charset=utf-8", (FOLDER / "files/console.css").read_bytes()),
    "icon.svg": ("image/svg+xml", (FOLDER / "files/icon.svg").read_bytes()),
}
"""All that pages load: no script, and nothing of anybody else."""
_VERSION: Final = sha256(b"".join(content for _, content in FILES.values())).hexdigest()[:12]

_SAID_BY: Final = {
    "human": "Our staff",
    "edited": "The agent, edited by our staff",
    "fallback": "The service",
    "hand_over": "The service",
}
_STATES: Final = {
    "in_turn": "is being answered",
    "pending": "waits",
    "human": "left to our staff",
    "expired": "too old",
    "dead": "could not be answered",
    "sending": "is being sent",
    "unknown": "perhaps sent",
    "failed": "could not be sent",
    "withheld": "withheld: somebody had taken over",
    "superseded": "not sent: newer messages came",
    "held": "waits for approval",
    "opted_out": "not sent: has opted out",
}
_WHY_HELD: Final = {
    "all": "each reply here is approved by a person",
    "new_user": "it is the first reply to this person",
    "asked": "the model asks for a person to look at it",
    "incomplete": "the model's answer was cut off",
}
_WHY_PAUSED: Final = {
    "loop": "it looked like two machines that answer each other",
    "echo": "one of our staff wrote to them from elsewhere",
    "model": "the model asked for a person",
    "person": "they asked for a person",
    "threat": "what they wrote sounds like a threat to somebody or to themselves",
    "minor": "they seem to be a minor",
    "refusal": "a filter stopped the model's answer",
    "failed_turns": "several answers failed in a row",
}


def _when(at: datetime, now: datetime | None = None) -> Markup:
    """Show a time and how long ago it is."""
    now = now or datetime.now(UTC)
    seconds = (now - at).total_seconds()
    ago = f"{span(seconds)} ago" if seconds >= 0 else f"in {span(seconds)}"
    iso, text = at.astimezone(UTC).isoformat(timespec="seconds"), clock(at, now).rstrip("Z")
    return Markup('<time datetime="{}">{} UTC</time> <span class="ago">({})</span>').format(
        iso, text, ago
    )


_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "when": _when,
    "said_by": lambda source, agent: _SAID_BY.get(source, f"The agent {agent}"),
    "state": lambda state: _STATES.get(state, str(state).replace("_", " ")),
    "why_held": lambda reason: _WHY_HELD.get(reason, str(reason)),
    "why_paused": lambda reason: _WHY_PAUSED.get(reason, "a person has taken over"),
}
_ENVIRONMENT.globals["version"] = _VERSION


def render(template: str, *, status: int = 200, **values: object) -> Response:
    """Return a page."""
    return HTMLResponse(_ENVIRONMENT.get_template(template).render(values), status)
