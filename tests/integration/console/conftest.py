"""The console on a world of its own, and one of our staff who is logged in."""

from collections.abc import Iterator

import pytest

from tests.support.asgi import Asgi
from tests.support.console import Visitor, running_console
from tests.support.world import World


@pytest.fixture
def app(world: World) -> Iterator[Asgi]:
    with running_console(world) as app:
        yield app


@pytest.fixture
def anna(app: Asgi) -> Visitor:
    visitor = Visitor(app=app)
    assert visitor.log_in().status == 303
    return visitor
