"""Telnyx: the key, its clock, the models; its dialect, played on a conversation of its own."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Final

from pydantic import SecretStr

from worker.bootstrap.reports import open_database
from worker.bootstrap.telnyx import build_telnyx
from worker.cli.doctor.check_postgres import judge_skew
from worker.cli.doctor.examine import Setup
from worker.domain.errors import NotFoundError, OperatorError, WorkerError
from worker.domain.ids import installation_tag
from worker.domain.reports.dialect import EXPECTED
from worker.domain.reports.finding import Finding, Level, fault, ok, unchecked, warning
from worker.handlers.operators.probe import Probes
from worker.net.answer import Answer
from worker.net.post_once import parse_url
from worker.store.complete import Completeness, CompletenessStore
from worker.telnyx.answers.rows import rows_of
from worker.telnyx.http.connection_per_thread import ConnectionPerThread

_PATIENCE_S: Final = 4.0
_SHOWN: Final = 5
_WHAT: Final = "list models"
_DIALECT: Final = "dialect"
_TOOL_POINTS: Final = ("tool round", "tool calls", "tool outputs")


def key(setup: Setup) -> Finding:
    """Check that Telnyx can be reached and accepts our key."""
    try:
        parse_url(setup.settings.telnyx_base_url)
    except ValueError:  # unquoted: it may hold parts of the address
        return fault("TELNYX_BASE_URL is no address", "give https://api.telnyx.com/v2")
    try:
        listed(setup)
    except ValueError as error:
        return fault(str(error), "fix that variable")
    except OperatorError as error:
        fix = "set TELNYX_API_KEY to an active key of an account that may use inference"
        return fault(f"refused ({_described(error)})", fix)
    except NotFoundError as error:
        return fault(f"no such page ({_described(error)})", "fix TELNYX_BASE_URL: …/v2")
    except WorkerError as error:
        return fault(f"no answer ({_described(error)})", "is TELNYX_BASE_URL right, and reachable?")
    return ok("accepted")


def clock(setup: Setup) -> Finding:
    """Compare the Date of an answer with our clock."""
    before = time.time()
    date = listed(setup).headers.get("date")
    ours = (before + time.time()) / 2
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return unchecked("its answers have no date")
    # A Date has whole seconds, cut off: on average it is half a second behind.
    return judge_skew(theirs + 0.5 - ours)


def models(setup: Setup) -> Finding:
    """Check that the models of all agents are offered."""
    offered = set(_rows(setup))
    missing = {
        name: agent.model
        for name, agent in sorted(setup.routing.agents.items())
        if agent.model not in offered
    }
    if not missing:
        return ok(f"those of all agents are among {len(offered)} offered")
    found = "; ".join(f"agents.{name}: {model} is not offered" for name, model in missing.items())
    some = ", ".join(sorted(offered)[:_SHOWN])
    return fault(found, f"choose an offered one, such as {some}" if some else "ask for a model")


def conversations(setup: Setup) -> Finding:
    """Check whether each conversation at Telnyx is known here, as far as workers have found out."""
    settings = setup.settings
    with open_database(settings.database_url, name="worker-doctor") as database:
        installation, settle_s = installation_tag(settings.namespace), setup.timing.settle_s
        store = CompletenessStore(database, installation=installation, settle_s=settle_s)
        state = store.state()
    if state is Completeness.COMPLETE:
        return ok("all are known here")
    if state is Completeness.NOT_ASKED:
        return ok(f"a worker asks for unknown ones {settle_s:.0f} s after a start of Postgres")
    if state is Completeness.HIDDEN:
        found = "Postgres hides whether it was replaced: each new person is looked for at Telnyx"
        return warning(found, "GRANT EXECUTE ON FUNCTION pg_control_system TO its user")
    found = "some may be unknown here: each new person is looked for at Telnyx"
    return warning(found, "run `worker conversations unknown`")


def sees_images(setup: Setup, model: str) -> bool:
    """Return whether this model takes images. Raises WorkerError."""
    return _rows(setup).get(model, {}).get("is_vision_supported") is True


def opened(setup: Setup) -> ConnectionPerThread:
    """Return a connection to Telnyx. Raises ValueError for a wrong setting of it."""
    key, url = SecretStr(setup.settings.telnyx_api_key), setup.settings.telnyx_base_url
    return ConnectionPerThread(key, base_url=url, timeout_s=_PATIENCE_S, environ=os.environ)


def listed(setup: Setup) -> Answer:
    """Return the whole answer of the list of models. Raises ValueError and WorkerError."""
    with opened(setup) as http:
        return http.call(_WHAT, "GET", "/ai/openai/models")


def _rows(setup: Setup) -> dict[str, dict[str, object]]:
    return {str(row.get("id")): row for row in rows_of(_WHAT, listed(setup))}


def _described(error: WorkerError) -> str:
    return str(error).removeprefix(f"{_WHAT}: ")


def played(setup: Setup) -> Iterator[Finding]:
    """Play the dialect with the default agent's model; takes as long as some of its answers."""
    settings, routing = setup.settings, setup.routing
    model = routing.agents[routing.default_agent].model
    with build_telnyx(settings) as client:
        sees = sees_images(setup, model)
        probes = Probes(client=client, model=model, sees_images=sees)
        report = probes.play()
    # The points that no agent needs today: a difference there is no fault.
    agents = routing.agents.values()
    unused = set() if any(one.tools for one in agents) else set(_TOOL_POINTS)
    unused |= set() if any(one.stream for one in agents) else {"streaming"}
    for name, finding in report.items():
        shown = _shown(name, finding, is_used=name not in unused)
        yield replace(shown, group=_DIALECT, name=name)


def not_played(why: str) -> Finding:
    """Return the one line that replaces those of all points of the dialect."""
    return replace(unchecked(why), group=_DIALECT, name="all points")


def _shown(name: str, finding: Finding, *, is_used: bool) -> Finding:
    level, found = finding.level, finding.found
    if level in {Level.WARNING, Level.FAULT}:
        found = f"{found}; expected: {EXPECTED[name]}"
    if level is Level.FAULT and not is_used:
        level, found = Level.WARNING, f"{found}; no agent needs it"
    return replace(finding, level=level, found=found)
