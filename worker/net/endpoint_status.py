"""The status table of HTTP endpoints that we POST to: tools and webhooks.

    2xx                            TAKEN      it was done
    408 425 429                    LATER      nothing was done; it may be sent again
    409                            BUSY       nothing was done, or this key is at work over there
    410                            GONE       nothing was done, and never will be
    301 307 308, any other 4xx     REFUSED    nothing was done
    5xx, any other 3xx             OPEN       it may have been done

302 and 303 are OPEN because they may answer a POST that was carried out; a 301, 307 or 308 asks for
the same POST elsewhere, so it was not carried out here. No redirect is followed: the address that
it names was never checked.
"""

from enum import Enum, auto


class EndpointStatus(Enum):
    """The effect of a request on the endpoint."""

    TAKEN = auto()
    LATER = auto()
    BUSY = auto()
    GONE = auto()
    REFUSED = auto()
    OPEN = auto()


def endpoint_status(status: int) -> EndpointStatus:
    """Return the effect that an HTTP status reports."""
    match status // 100, status:
        case 2, _:
            return EndpointStatus.TAKEN
        case _, 408 | 425 | 429:
            return EndpointStatus.LATER
        case _, 409:
            return EndpointStatus.BUSY
        case _, 410:
            return EndpointStatus.GONE
        case (4, _) | (_, 301 | 307 | 308):
            return EndpointStatus.REFUSED
        case _:
            return EndpointStatus.OPEN
