"""One rule for all HTTP: SSL_CERT_FILE, and HTTPS_PROXY but for NO_PROXY."""

import base64
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from tests.support.raw_server import RawServer, Serve, answers, http, raw_server
from tests.support.tls_front import Certificate, make_certificate, tls_front
from worker.channels.build import build_channels
from worker.domain.deliveries import OutgoingReply, Sent
from worker.domain.ids import ChannelUserId, DeliveryId
from worker.domain.messages import ChannelAddress
from worker.domain.tools import ToolConfig, ToolRequest
from worker.domain.ways_out import WebhookDelivery
from worker.net.proxy import proxy_for
from worker.telnyx.client import TelnyxClient
from worker.tools.build import build_tools

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
WHO = ChannelAddress(channel="web", recipient="shop", address="visitor-1", thread="")
Environ = Mapping[str, str]

# Each part calls a server as it is built from the environment, and returns None or why it failed.


def telnyx(url: str, environ: Environ) -> str | None:
    with TelnyxClient(SecretStr("KEY"), base_url=url, environ=environ) as client:
        try:
            client.model_ids()
        except Exception as error:  # noqa: BLE001 - the reason is what counts
            return str(error)
    return None


def tool(url: str, environ: Environ) -> str | None:
    config = ToolConfig(
        name="t", url=url, parameters={"type": "object"}, secret_env="SECRET", timeout_s=5
    )
    built = build_tools({"t": config}, {"SECRET": SECRET, **environ})["t"]
    result = built.run(ToolRequest(name="t", arguments="{}", key=UUID(int=1), who=WHO, metadata={}))
    return None if result.state == "done" else result.reason


def webhook(url: str, environ: Environ, *, allow_private: bool = True) -> str | None:
    config = WebhookDelivery(
        url=url, secret_env=("SECRET",), secret_file=(), allow_private=allow_private
    )
    built = build_channels({"web": config}, lambda *_: None, {"SECRET": SECRET, **environ})
    reply = OutgoingReply(
        delivery_id=DeliveryId(1),
        user_id=ChannelUserId(1),
        idempotency_key=UUID(int=1),
        to=WHO,
        text="hi",
        message_ids=("m",),
        metadata={},
    )
    outcome = built["web"].deliver(reply)
    return None if isinstance(outcome, Sent) else outcome.reason  # type: ignore[union-attr]


PARTS = [telnyx, tool, webhook]
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
Part = Callable[[str, Environ], str | None]


@dataclass
class TunnelProxy:
    """A proxy that makes tunnels; every name leads to this machine."""

    port: int = 0
    heads: list[str] = field(default_factory=list)
    answer: bytes = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"

    def serve(self, conn: socket.socket, _: RawServer) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += conn.recv(1)
        self.heads.append(head.decode())
        port = int(head.split()[1].rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port)) as onward:
            conn.sendall(self.answer)
            back = threading.Thread(target=_copy, args=(onward, conn), daemon=True)
            back.start()
            _copy(conn, onward)
            back.join(5)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def port(certificate: Certificate) -> Iterator[int]:
    """The port of a server of everything, with TLS; its certificate is that of `localhost`."""
    with (
        raw_server(answers(http({"data": []}))) as server,
        tls_front(server.port, certificate) as it,
    ):
        yield it


@contextmanager
def proxy(serve: Serve | None = None) -> Iterator[tuple[TunnelProxy, str]]:
    tunnel = TunnelProxy()
    with raw_server(serve or tunnel.serve) as server:
        yield tunnel, f"127.0.0.1:{server.port}"


@each_part
def test_an_own_authority_is_trusted_by_all_and_a_stranger_by_none(
    part: Part, port: int, certificate: Certificate
) -> None:
    url = f"https://localhost:{port}/v2"
    assert part(url, {"SSL_CERT_FILE": str(certificate.cert)}) is None
    assert "SSLCertVerificationError" in str(part(url, {}))


@each_part
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_every_part_goes_through_the_proxy(
    part: Part, name: str, port: int, certificate: Certificate
) -> None:
    environ = {"SSL_CERT_FILE": str(certificate.cert)}
    with proxy() as (tunnel, address):
        assert part(f"https://localhost:{port}/v2", {**environ, name: f"http://{address}"}) is None
        assert part(f"https://localhost:{port}/v2", {**environ, name: address}) is None
    assert [head.split("\r\n")[0] for head in tunnel.heads] == [
        f"CONNECT localhost:{port} HTTP/1.1"
    ] * 2
    assert "Authorization" not in "".join(tunnel.heads)


@each_part
def test_the_names_are_looked_up_by_the_proxy_and_the_login_is_its_own(
    part: Part, port: int, certificate: Certificate
) -> None:
    """The certificate does not fit the name, which proves that TLS begins behind the tunnel."""
    environ = {"SSL_CERT_FILE": str(certificate.cert)}
    with proxy() as (tunnel, address):
        environ["HTTPS_PROXY"] = f"http://us%40er:p%2Fw@{address}"
        reason = part(f"https://no-such-host.invalid:{port}/", environ)
    assert "SSLCertVerificationError" in str(reason)
    login = base64.b64encode(b"us@er:p/w").decode()
    assert f"Proxy-Authorization: Basic {login}\r\n" in tunnel.heads[0]


@each_part
@pytest.mark.parametrize("excepted", ["localhost", "*", "other,.localhost", "localhost:{port}"])
def test_no_proxy_names_what_is_reached_directly(
    part: Part, excepted: str, port: int, certificate: Certificate
) -> None:
    environ = {"SSL_CERT_FILE": str(certificate.cert), "HTTPS_PROXY": "http://127.0.0.1:1"}
    url = f"https://localhost:{port}/"
    assert part(url, environ | {"NO_PROXY": excepted.format(port=port)}) is None
    assert "ConnectionRefusedError" in str(part(url, environ | {"NO_PROXY": "other"}))


@each_part
def test_plain_http_stays_inside(part: Part) -> None:
    with raw_server(answers(http({"data": []}))) as server:
        assert (
            part(f"http://127.0.0.1:{server.port}/", {"HTTPS_PROXY": "http://127.0.0.1:1"}) is None
        )


@each_part
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy: status 407"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "proxy: status 502"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "proxy: not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 9000, "proxy: "),
        (b"", "proxy: "),
    ],
)
def test_a_proxy_that_refuses_is_named_and_nothing_was_sent(
    part: Part, answer: bytes, reason: str, port: int
) -> None:
    def refuse(conn: socket.socket, _: RawServer) -> None:
        conn.recv(65536)
        conn.sendall(answer)

    with proxy(refuse) as (_, address):
        said = part(f"https://localhost:{port}/", {"HTTPS_PROXY": address})
    assert reason in str(said)


def test_a_webhook_that_must_be_public_is_checked_before_the_proxy_is_asked() -> None:
    with proxy() as (tunnel, address):
        environ = {"HTTPS_PROXY": address}
        said = webhook("https://localhost:1/", environ, allow_private=False)
    assert said == "address not allowed"
    assert tunnel.heads == []


@pytest.mark.parametrize(
    "wrong", ["socks5://h:1", "https://h:1", "http://", "http://h:S3cr/x", "ftp://S3cr@h"]
)
def test_a_proxy_that_cannot_be_used_is_one_line_that_quotes_nothing(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^HTTPS_PROXY: give http://") as caught:
        TelnyxClient(SecretStr("KEY"), base_url="https://h/v2", environ={"HTTPS_PROXY": wrong})
    assert "S3cr" not in str(caught.value)


def test_a_login_is_never_shown() -> None:
    found = proxy_for(httpx.URL("https://h/"), {"HTTPS_PROXY": "http://u:S3cr@p:3128"})
    assert found is not None
    assert (found.host, found.port) == ("p", 3128)
    assert "S3cr" not in repr(found)
