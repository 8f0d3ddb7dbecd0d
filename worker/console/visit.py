"""One request of somebody who is logged in, as a page gets it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from worker.console.rendering import render
from worker.gateway.endpoint import RefusedError

_FIELD: Final = Markup('<input type="hidden" name="csrf" value="{}">')


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """The request. It is recorded already, see `worker.store.operators.audits`."""

    who: str
    csrf: str
    is_proxied: bool
    """A reverse proxy has logged them in, and only it can log them out."""
    subject: int
    """The number in the address; 0 = it has none."""
    query: Mapping[str, str]
    form: Mapping[str, str]

    def show(self, template: str, **values: object) -> Response:
        """Return a page."""
        return render(
            template,
            status=200,
            who=self.who,
            is_proxied=self.is_proxied,
            csrf_field=_FIELD.format(self.csrf),
            done=self.query.get("done", ""),
            **values,
        )

    def given(self, name: str) -> str:
        """Return a field of the form, with the line ends that people's programs have."""
        return self.form.get(name, "").replace("\r\n", "\n").strip()


Page: TypeAlias = Callable[[Visit], Response]


def go_to(path: str) -> Response:
    """Show another page, with GET."""
    return RedirectResponse(path, 303)


def missing(what: str) -> RefusedError:
    """Return the error of a page that does not exist."""
    return RefusedError(404, what, f"there is no such {what}")
