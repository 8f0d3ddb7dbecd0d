"""Builds channels from their configuration; reports every fault in it at the start."""

import inspect
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from ipaddress import ip_address
from socket import inet_aton
from typing import Any, Final, assert_never

import httpx

from worker.channels.channel import Channel
from worker.channels.email.delivery.compose import Composer
from worker.channels.email.delivery.pool import SessionPool
from worker.channels.email.delivery.session import Session
from worker.channels.email.delivery.smtp import SmtpChannel
from worker.channels.email.delivery.telnyx import TelnyxMailChannel
from worker.channels.public_addresses import is_public
from worker.channels.sms.channel import Post, TelnyxChannel
from worker.channels.task import TaskChannel
from worker.channels.webhook import MAX_BODY_BYTES, WebhookChannel
from worker.domain.deliveries import OutgoingReply
from worker.domain.email.mail import Address, AnsweredMail
from worker.domain.email.server import SMTP_PORTS, parse_server
from worker.domain.errors import SettingsError
from worker.domain.routing import ROUTE
from worker.domain.ways_out import (
    Delivery,
    EntryPointDelivery,
    MailDelivery,
    TaskDelivery,
    TelnyxDelivery,
    WebhookDelivery,
)
from worker.net.dial import tls_context
from worker.net.post_once import Endpoint, parse_url
from worker.net.proxy import proxy_for
from worker.net.signing import signer_from
from worker.net.window import CallWindow

GROUP: Final = "worker.channels"
"""Group of entry points; each names a callable that takes the options and returns a `Channel`."""


@dataclass(frozen=True, kw_only=True)
class TelnyxWay:
    """What channels of Telnyx need of this process."""

    post: Post
    public_url: str | None
    """Of the gateway; None = it is not set."""


@dataclass(frozen=True, kw_only=True)
class MailWay:
    """What channels of e-mail need of this process."""

    answered: Callable[[OutgoingReply], AnsweredMail | None]
    key: Callable[[], bytes]
    smtp_url: str | None
    """None = it is not set."""
    token_command: str | None


def build_channels(
    configs: Mapping[str, Delivery],
    publish: Callable[[str, str, str, dict[str, Any]], None],
    environ: Mapping[str, str],
    *,
    telnyx: TelnyxWay | None = None,
    mail: MailWay | None = None,
) -> dict[str, Channel]:
    """Build them all, by channel name. Raises `SettingsError`, one line with the fault and the fix.

    `publish`: see `TaskChannel`. `environ` has the variables of `secret_env`, and
    perhaps SSL_CERT_FILE and HTTPS_PROXY.
    """
    built: dict[str, Channel] = {}
    tls: ssl.SSLContext | None = None
    for name, config in configs.items():
        try:
            match config:
                case TaskDelivery():
                    built[name] = TaskChannel(publish=publish, task=config.task, queue=config.queue)
                case WebhookDelivery():
                    tls = tls or tls_context(environ)
                    built[name] = _webhook(config, environ, tls)
                case EntryPointDelivery():
                    built[name] = _entry_point(config)
                case TelnyxDelivery():
                    built[name] = _telnyx(config, telnyx)
                case MailDelivery():
                    built[name] = _mail(config, mail, telnyx, environ)
                case _:
                    assert_never(config)
        except ValueError as error:
            # Only the cause that was named on purpose: others may quote a secret.
            kind = "routes" if name.startswith(ROUTE) else "channels"
            by_driver = isinstance(config, TelnyxDelivery | MailDelivery)
            section = "driver" if by_driver else "delivery"
            place = f"{kind}.{name.removeprefix(ROUTE)}.{section}"
            raise SettingsError(f"AGENTS_FILE: {place}: {error}") from error.__cause__
    return built


def _telnyx(config: TelnyxDelivery, way: TelnyxWay | None) -> TelnyxChannel:
    if way is None or way.public_url is None:
        raise ValueError("set PUBLIC_URL, the gateway's address: receipts of messages go there")
    return TelnyxChannel(post=way.post, options=config, public_url=way.public_url)


def _mail(
    config: MailDelivery,
    way: MailWay | None,
    telnyx: TelnyxWay | None,
    environ: Mapping[str, str],
) -> Channel:
    if way is None:
        raise ValueError("this command sends no mails")
    composer = Composer(options=config, answered=way.answered, key=way.key)
    if config.telnyx and telnyx is not None:
        return TelnyxMailChannel(post=telnyx.post, composer=composer)
    if way.smtp_url is None:
        raise ValueError("set SMTP_URL, the server that takes our mails")
    name = Address(config.addresses[0]).domain
    connect = way_to_smtp(way.smtp_url, way.token_command, name=name, environ=environ)
    return SmtpChannel(
        pool=SessionPool(connect=connect),
        composer=composer,
        host=parse_server(way.smtp_url, SMTP_PORTS).host,
    )


def way_to_smtp(
    url: str, token_command: str | None, *, name: str, environ: Mapping[str, str]
) -> Callable[[CallWindow], Session]:
    """Return what logs in there. `name`: ours in EHLO. Raises `ValueError`."""
    server, tls = parse_server(url, SMTP_PORTS), tls_context(environ, http=False)
    if token_command is not None and server.user is None:
        raise ValueError("SMTP_TOKEN_COMMAND: SMTP_URL has to name the user that the token is for")

    def connect(window: CallWindow) -> Session:
        session = Session(server, tls=tls, name=name)
        try:
            session.open(window, token_command)
        except BaseException:
            session.close()
            raise
        return session

    return connect


def _webhook(
    config: WebhookDelivery, environ: Mapping[str, str], tls: ssl.SSLContext
) -> WebhookChannel:
    url = parse_url(config.url)
    signer = signer_from(variables=config.secret_env, files=config.secret_file, environ=environ)
    if not config.allow_private:
        _check_public(url)
    endpoint = Endpoint(
        url,
        tls,
        max_body_bytes=MAX_BODY_BYTES,
        whole_answer=False,
        # At each delivery, not only at the start: by then the name may lead elsewhere.
        allowed=None if config.allow_private else is_public,
        proxy=proxy_for(url, environ),
    )
    return WebhookChannel(endpoint, signer)


def _check_public(url: httpx.URL) -> None:
    """Refuse at once an address that each delivery would refuse; names are only known then."""
    fix = "set allow_private = true if the receiver is in your own network"
    if url.scheme != "https":
        raise ValueError(f"url: http is not encrypted: give https, or {fix}")
    address = _literal_address(url)
    if address is not None and not is_public(address):
        raise ValueError(f"url: this address is not public: {fix}")


def _literal_address(url: httpx.URL) -> str | None:
    """Read a host that is an address, also as 127.1, 2130706433 or 0x7f000001; None = a name."""
    host = url.raw_host.decode("ascii")
    try:
        return str(ip_address(host.replace("%25", "%")))
    except ValueError:
        pass
    try:
        # The resolver accepts these old spellings too: "127.1" would reach 127.0.0.1.
        return str(ip_address(inet_aton(host)))
    except OSError:
        return None


def _entry_point(config: EntryPointDelivery) -> Channel:
    name = config.entry_point
    found = entry_points(group=GROUP, name=name)
    if not found:
        known = sorted({one.name for one in entry_points(group=GROUP)})
        raise ValueError(
            f"entry_point: no installed package has {name!r} in the group {GROUP}: install it"
            + (f", or name one of {known}" if known else "")
        )
    if len(found) > 1:
        raise ValueError(f"entry_point: several installed packages have {name!r}: keep one")
    (point,) = found
    try:
        factory = point.load()
    except Exception as error:  # the module's own code may raise anything
        fault = f"entry_point: {point.value} cannot be loaded ({type(error).__name__})"
        raise ValueError(f"{fault}: install what it needs") from error
    return _made_by(factory, config)


def _made_by(factory: Callable[..., object], config: EntryPointDelivery) -> Channel:
    try:
        inspect.signature(factory).bind(**config.options)
    except TypeError as error:  # names of keys, never their values
        raise ValueError(f"the options of {config.entry_point!r}: {error}") from None
    try:
        channel = factory(**config.options)
    except ValueError as error:  # as documented: a text that names the key and the fix
        raise ValueError(f"the options of {config.entry_point!r}: {error}") from None
    except Exception as error:  # somebody else's code may raise anything, and quote anything
        fault = f"{config.entry_point!r} could not be built ({type(error).__name__})"
        raise ValueError(f"entry_point: {fault}: see its documentation") from error
    if not isinstance(getattr(channel, "takes_key", None), bool) or not callable(
        getattr(channel, "deliver", None)
    ):
        fault = f"{config.entry_point!r} returned no channel"
        fault = f"entry_point: {fault}: it needs takes_key and deliver"
        raise ValueError(fault)  # noqa: TRY004 a setting is at fault
    return channel  # type: ignore[return-value]  # just checked
