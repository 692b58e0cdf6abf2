"""Keys at a `jwks_uri`: fetched with limits, never from where a client has no business (A4), and remembered."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import webtest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authserver.app import create_app
from authserver.fetch.documents import MAX_BYTES, Fetcher, FetchFailed
from authserver.flows import remote_keys as module
from authserver.flows.remote_keys import COOLDOWN, FRESH, MAX_WAITING, STALE, RemoteKeys
from authserver.flows.server import make_server

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


@pytest.fixture(scope="module")
def signer(make_signer):
    return make_signer("ES256")


@pytest.fixture
def fetcher():
    """One that may ask the tests' own servers."""
    return Fetcher([LOOPBACK], allow_http=True)


@pytest.fixture
def make_client_at(register, clock):
    """Register a client whose keys are at a URL; give what makes its requests."""

    def make(uri):
        client_id = register(scope="read", token_endpoint_auth_method="private_key_jwt", jwks_uri=uri)["client_id"]
        numbers = iter(range(10**6))

        def form(signer, **header):
            claims = {"iss": client_id, "sub": client_id, "aud": "https://as.example", "exp": int(clock()) + 60}
            assertion = signer.sign(claims | {"jti": str(next(numbers))}, **header)
            return {
                "grant_type": "client_credentials",
                "client_assertion_type": JWT_BEARER,
                "client_assertion": assertion,
            }

        return form

    return make


@pytest.fixture
def refused(app, make_client_at, signer, caplog):
    """A client with keys at this URL is refused, and the log says why."""
    caplog.set_level("INFO")

    def check(uri, reason, app=app):
        caplog.clear()
        answer = app.post("/oauth/token", make_client_at(uri)(signer), status=401)
        assert answer.json == {"error": "invalid_client", "error_description": "Client authentication failed."}
        assert reason in caplog.text

    return check


def test_keys_are_fetched_once_and_remembered(app, site, make_client_at, signer):
    site.pages["/jwks"] = signer.jwks()
    form = make_client_at(f"{site.url}/jwks")
    for _ in range(5):
        app.post("/oauth/token", form(signer), status=200)
    assert site.asked == ["/jwks"]
    assert site.hosts == [f"127.0.0.1:{site.port}"]


def test_a4_keys_are_the_clients_own_also_where_two_name_one_site(app, site, make_client_at, signer, make_signer):
    other = make_signer("ES256")
    site.pages |= {"/a": signer.jwks(), "/b": other.jwks()}
    a, b = (make_client_at(f"{site.url}/{name}") for name in "ab")
    app.post("/oauth/token", a(signer), status=200)
    app.post("/oauth/token", b(other), status=200)
    app.post("/oauth/token", a(other), status=401)
    app.post("/oauth/token", b(signer), status=401)


# Where an attacker who may register a client would like this server to look.
FORBIDDEN = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "localhost",
    "0.0.0.0",  # noqa: S104 - an address not to connect to
    "0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "[ff02::1]",
    "240.0.0.1",
    "255.255.255.255",
]


@pytest.fixture
def strict_app(policy, database, clock):
    """The front door of a server that allows no network, but http, so that these tests need no certificate."""
    fetcher = Fetcher(allow_http=True)
    return webtest.TestApp(
        create_app(
            make_server(policy, database, clock=clock, fetcher=fetcher, make_remote_keys=lambda: RemoteKeys(clock))
        )
    )


@pytest.mark.parametrize("host", FORBIDDEN)
def test_a4_an_address_that_is_not_public_is_not_connected_to(strict_app, site, refused, signer, host):
    site.pages["/jwks"] = signer.jwks()
    refused(f"http://{host}:{site.port}/jwks", "address that is not allowed", app=strict_app)
    assert site.asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fd00::1"])
@pytest.mark.parametrize("beside", [[], ["93.184.215.14"]])
def test_a4_a_name_that_resolves_to_such_an_address_is_not_connected_to(site, address, beside):
    def resolve(_host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in (*beside, address)]

    fetcher = Fetcher(allow_http=True, resolve=resolve)
    with pytest.raises(FetchFailed, match="address that is not allowed"):
        fetcher.get_json(f"http://keys.example:{site.port}/jwks", time.monotonic() + 30)
    assert site.asked == []


def test_a4_a_name_is_resolved_once(site):
    """DNS rebinding: what was checked is what is connected to."""
    answers = []

    def resolve(_host, port, **_):
        answers.append("93.184.215.14" if answers else "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[-1], port))]

    site.pages["/jwks"] = {"here": True}
    fetcher = Fetcher([LOOPBACK], allow_http=True, resolve=resolve)
    assert fetcher.get_json(f"http://keys.example:{site.port}/jwks", time.monotonic() + 30) == {"here": True}
    assert answers == ["127.0.0.1"]
    assert site.hosts == [f"keys.example:{site.port}"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a4_redirects_are_not_followed(make_site, site, refused, signer, status):
    inside = make_site()
    inside.pages["/jwks"] = signer.jwks()

    def redirect(page):
        page.send_response(status)
        page.send_header("Location", f"{inside.url}/jwks")
        page.send_header("Content-Length", "0")
        page.end_headers()

    site.pages["/jwks"] = redirect
    refused(f"{site.url}/jwks", f"answered {status}")
    assert site.asked == ["/jwks"]
    assert inside.asked == []


def test_a4_proxies_of_the_environment_are_not_used(site, make_site, signer, fetcher, monkeypatch):
    proxy = make_site()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    site.pages["/jwks"] = signer.jwks()
    assert fetcher.get_json(f"{site.url}/jwks", time.monotonic() + 30) == signer.jwks()
    assert proxy.asked == []


@pytest.mark.parametrize(
    "uri",
    [
        "http://keys.example/jwks",
        "HTTP://keys.example/jwks",
        "file:///etc/passwd",
        "ftp://keys.example/jwks",
        "gopher://keys.example/",
        "https://",
        "https:///jwks",
        "https://user:password@keys.example/",
        "https://keys.example/#fragment",
        "https://keys.example:0/",
        "https://keys.example:99999/",
        "https://keys.example/a b",
        "https://keys.example/\r\nX-Header: 1",
        "https://ke\u00fds.example/",
        "//keys.example/jwks",
        "keys.example",
        "",
        "https://keys.example/" + "x" * 500,
        1,
        ["https://keys.example/jwks"],
    ],
)
def test_only_an_https_url_can_be_registered(policy, database, uri):
    app = webtest.TestApp(create_app(make_server(policy, database)))
    headers = {"Authorization": "Bearer initial-access-token-of-the-tests-0123456789"}
    document = {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": uri}
    answer = app.post_json("/clients/register", document, headers=headers, status=400)
    assert answer.json["error"] == "invalid_client_metadata"
    made = app.post_json("/clients/register", {}, headers=headers, status=201).json
    own = {"Authorization": f"Bearer {made['registration_access_token']}"}
    path = made["registration_client_uri"].removeprefix("https://as.example")
    app.put_json(path, document | {"client_id": made["client_id"]}, headers=own, status=400)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (b"x", "JSONDecodeError"),
        (b"\xff\xfe\xfd", "failed"),
        (b"[" * 60_000, "failed"),
        ([], "is not a JWK Set"),
        ({"keys": {}}, "is not a JWK Set"),
        ({"keys": []}, "holds no key that is usable"),
        ({"keys": [{"kty": "oct", "k": "AAAA"}]}, "holds a private or a symmetric key"),
        (None, "answered 404"),
        (b" " * (MAX_BYTES + 1), "longer than"),
    ],
)
def test_what_is_no_key_set_is_refused(site, refused, page, reason):
    site.pages["/jwks"] = page
    refused(f"{site.url}/jwks", reason)


def endless(page):
    page.send_response(200)
    page.end_headers()
    while not page.server.ended.is_set():
        page.wfile.write(b" " * 65536)


def test_an_endless_document_is_not_read_on(site, refused):
    site.pages["/jwks"] = endless
    refused(f"{site.url}/jwks", "longer than")


def dripping(page, head=b""):
    page.wfile.write(head)
    while not page.server.ended.wait(0.02):
        page.wfile.write(b" ")


SLOW = {
    "body": lambda page: dripping(page, b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"),
    "body without length": lambda page: dripping(page, b"HTTP/1.1 200 OK\r\n\r\n"),
    "header": lambda page: dripping(page, b"HTTP/1.1 200 OK\r\nX: "),
    "status": lambda page: dripping(page, b"HTTP/1.1 200"),
    "nothing": lambda page: page.server.ended.wait(60),
}


@pytest.mark.parametrize("page", SLOW.values(), ids=SLOW)
def test_a_slow_document_is_given_up_at_the_deadline(site, refused, signer, monkeypatch, page):
    monkeypatch.setattr(module, "DEADLINE", 0.4)
    site.pages["/jwks"] = page
    began = time.monotonic()
    refused(f"{site.url}/jwks", "")
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("page", SLOW.values(), ids=SLOW)
def test_a_slow_server_does_not_hold_the_fetch_itself(site, fetcher, page):
    site.pages["/jwks"] = page
    with pytest.raises(FetchFailed, match="not done in time"):
        fetcher.get_json(f"{site.url}/jwks", time.monotonic() + 0.4)


def test_a_slow_server_keeps_few_threads_waiting(app, site, make_client_at, signer, wait_for):
    arrived, answer = threading.Semaphore(0), threading.Event()

    def held(page):
        arrived.release()
        answer.wait(30)
        body = json.dumps(signer.jwks()).encode()
        page.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)

    site.pages["/jwks"] = held
    form = make_client_at(f"{site.url}/jwks")
    forms = [form(signer) for _ in range(MAX_WAITING)]
    with ThreadPoolExecutor(MAX_WAITING) as pool:
        waiting = [pool.submit(app.post, "/oauth/token", each, expect_errors=True) for each in forms]
        assert arrived.acquire(timeout=30)
        wait_for(lambda: app_waits(app) == MAX_WAITING)
        # Nobody else waits: not for this client's keys, and not for anybody's.
        app.post("/oauth/token", form(signer), status=401)
        assert not any(each.done() for each in waiting)
        answer.set()
        assert [each.result().status_int for each in waiting] == [200] * MAX_WAITING
    assert site.asked == ["/jwks"]


def app_waits(app):
    return MAX_WAITING - app.remote_keys._waiting._value


@pytest.fixture
def app(policy, serving_database, clock, fetcher, from_everywhere):
    def make_keys():
        return RemoteKeys(clock)

    server = make_server(policy, serving_database, clock=clock, fetcher=fetcher, make_remote_keys=make_keys)
    app = from_everywhere(server)
    app.remote_keys = server.client_cache._prover.client_keys
    return app


@pytest.fixture
def wait_for():
    def wait(condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)

    return wait


def test_a4_many_unknown_kids_cause_one_fetch_for_each_cooldown(app, site, make_client_at, signer, clock):
    site.pages["/jwks"] = signer.jwks()
    form = make_client_at(f"{site.url}/jwks")
    app.post("/oauth/token", form(signer), status=200)
    for number in range(100):
        app.post("/oauth/token", form(signer, kid=f"unknown-{number}"), status=401)
    assert len(site.asked) == 2
    app.post("/oauth/token", form(signer), status=200)
    clock.advance(COOLDOWN)
    app.post("/oauth/token", form(signer, kid="unknown"), status=401)
    assert len(site.asked) == 3


def test_a_new_key_is_accepted_the_first_time(app, site, make_client_at, signer, make_signer):
    new = make_signer("ES256", kid="k2")
    site.pages["/jwks"] = signer.jwks()
    form = make_client_at(f"{site.url}/jwks")
    app.post("/oauth/token", form(signer), status=200)
    site.pages["/jwks"] = {"keys": [signer.jwk(), new.jwk()]}
    app.post("/oauth/token", form(new), status=200)
    app.post("/oauth/token", form(signer), status=200)


def test_a_key_that_was_taken_away_stops_when_the_set_is_no_longer_fresh(
    app, site, make_client_at, signer, make_signer, clock
):
    site.pages["/jwks"] = signer.jwks()
    form = make_client_at(f"{site.url}/jwks")
    app.post("/oauth/token", form(signer), status=200)
    site.pages["/jwks"] = make_signer("ES256", kid="k2").jwks()
    clock.advance(FRESH - 1)
    app.post("/oauth/token", form(signer), status=200)
    clock.advance(1)
    app.post("/oauth/token", form(signer), status=401)


def test_a_fetch_that_fails_keeps_the_keys_for_a_bounded_time(app, site, make_client_at, signer, clock):
    site.pages["/jwks"] = signer.jwks()
    form = make_client_at(f"{site.url}/jwks")
    app.post("/oauth/token", form(signer), status=200)
    site.pages["/jwks"] = b"broken"
    clock.advance(FRESH)
    for _ in range(10):
        app.post("/oauth/token", form(signer), status=200)
    assert len(site.asked) == 2
    clock.advance(STALE - FRESH - 1)
    app.post("/oauth/token", form(signer), status=200)
    clock.advance(1)
    app.post("/oauth/token", form(signer), status=401)
    clock.advance(COOLDOWN)
    site.pages["/jwks"] = signer.jwks()
    app.post("/oauth/token", form(signer), status=200)


def test_one_fetch_is_under_way_for_all_who_wait(app, site, make_client_at, signer):
    site.pages["/jwks"] = signer.jwks()
    form = make_client_at(f"{site.url}/jwks")
    forms = [form(signer) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda each: app.post("/oauth/token", each, expect_errors=True), forms))
    assert site.asked == ["/jwks"]


def certificate(directory, *names):
    """A certificate for these names that is its own authority; the file that holds it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, names[0])])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{names[0]}.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def tls_site(make_site, tmp_path):
    """A site with TLS for the name keys.example, and the authority that vouches for it."""
    file = certificate(tmp_path, "keys.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    site = make_site(context)
    site.pages["/jwks"] = {"here": True}
    return site, file


def to_loopback(_host, port, **_):
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


def test_tls_is_checked_by_name_although_the_address_is_pinned(tls_site):
    site, file = tls_site
    trusting = ssl.create_default_context(cafile=str(file))
    good = Fetcher([LOOPBACK], tls=trusting, resolve=to_loopback)
    assert good.get_json(f"https://keys.example:{site.port}/jwks", time.monotonic() + 30) == {"here": True}
    assert site.hosts == [f"keys.example:{site.port}"]
    for fetcher, name in (
        (good, "other.example"),
        (good, "127.0.0.1"),
        (Fetcher([LOOPBACK], resolve=to_loopback), "keys.example"),
    ):
        with pytest.raises(FetchFailed, match="SSLCertVerificationError"):
            fetcher.get_json(f"https://{name}:{site.port}/jwks", time.monotonic() + 30)
    assert len(site.asked) == 1


def test_a_handshake_that_does_not_end_is_cut():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fetcher = Fetcher([LOOPBACK])
        with pytest.raises(FetchFailed, match="not done in time"):
            fetcher.get_json(f"https://127.0.0.1:{silent.getsockname()[1]}/", time.monotonic() + 0.3)
