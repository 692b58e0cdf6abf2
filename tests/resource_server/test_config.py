"""Settings: one line for what is wrong, never the value."""

import pytest

from resource_server.config import SETTINGS, Config
from resource_server.errors import ConfigError

NEEDED = {"OAUTH2_INTROSPECT_URL": "http://as/i", "OAUTH2_CLIENT_ID": "id", "OAUTH2_CLIENT_SECRET": "canary"}


def test_defaults_and_secret_from_a_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text("from file\n")
    config = Config.from_environ(NEEDED | {"REQUIRED_SCOPE": ""})
    assert (config.required_scope, config.cache_ttl, config.resource) == (("read",), 0, None)
    environ = NEEDED | {"OAUTH2_CLIENT_SECRET": "", "OAUTH2_CLIENT_SECRET_FILE": str(path)}
    assert Config.from_environ(environ).client_secret == "from file"
    assert "canary" not in repr(config)


LOCAL = {"OAUTH2_VALIDATION": "jwt", "OAUTH2_ISSUER": "https://as", "OAUTH2_RESOURCE": "https://me"}
FEED = {"OAUTH2_REVOCATIONS_URL": "https://as/oauth/revocations"}


def test_local_validation_needs_no_credentials():
    config = Config.from_environ(LOCAL | {"OAUTH2_JWT_ALGORITHMS": " RS256, ES384 "})
    assert (config.validation, config.issuer, config.jwt_algorithms) == ("jwt", "https://as", ("RS256", "ES384"))
    assert Config.from_environ(LOCAL | NEEDED | {"OAUTH2_VALIDATION": "auto"}).client_id == "id"


@pytest.mark.parametrize(
    ("environ", "named"),
    [(LOCAL | {name: ""}, name) for name in ("OAUTH2_ISSUER", "OAUTH2_RESOURCE")]
    + [(LOCAL | NEEDED | {"OAUTH2_VALIDATION": "auto", name: ""}, name) for name in NEEDED]
    + [(LOCAL | {"OAUTH2_VALIDATION": bad}, "OAUTH2_VALIDATION") for bad in ("JWT", "canary")]
    + [
        (LOCAL | {"OAUTH2_JWT_ALGORITHMS": bad}, "OAUTH2_JWT_ALGORITHMS")
        for bad in (",", "none", "HS256", "ES256,canary", "es256")
    ]
    + [
        (NEEDED | FEED | {"OAUTH2_DEADLINE": "3.1"}, "OAUTH2_DEADLINE"),
        (LOCAL | FEED, "OAUTH2_CLIENT_ID"),
        (LOCAL | FEED | {"OAUTH2_CLIENT_ID": "id"}, "OAUTH2_CLIENT_SECRET"),
        (LOCAL | {"OAUTH2_JWT_WITHOUT_FEED": "introspect"}, "OAUTH2_INTROSPECT_URL"),
        (LOCAL | {"OAUTH2_JWT_WITHOUT_FEED": "canary"}, "OAUTH2_JWT_WITHOUT_FEED"),
        (NEEDED | {"OAUTH2_REVOCATIONS_URL": "canary"}, "OAUTH2_REVOCATIONS_URL"),
    ]
    + [(LOCAL | {"OAUTH2_ISSUER": "canary"}, "OAUTH2_ISSUER"), (LOCAL | {"OAUTH2_JWKS_URL": "x"}, "OAUTH2_JWKS_URL")],
)
def test_settings_that_do_not_go_together_are_one_line(environ, named):
    with pytest.raises(ConfigError) as caught:
        Config.from_environ(environ)
    assert str(caught.value).startswith(named)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, "") for name in NEEDED]
    + [
        ("OAUTH2_INTROSPECT_URL", bad)
        for bad in ("ftp://x", "x", "http://u:canary@x/", "http://x/#f", "http://[", "http://")
    ]
    + [("OAUTH2_CACHE_TTL", bad) for bad in ("-1", "31", "nan", "canary", "inf")]
    + [("OAUTH2_CLIENT_SECRET_FILE", "/nonexistent"), ("OAUTH2_CA_BUNDLE", "/nonexistent")]
    + [
        ("REQUIRED_SCOPE", 'a"b'),
        ("WEB_THREADS", "1.5"),
        ("WEB_CONCURRENCY", "0"),
        ("OAUTH2_RESOURCE", "urn:x"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(name, value):
    with pytest.raises(ConfigError) as caught:
        Config.from_environ(NEEDED | {name: value})
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_every_setting_is_explained():
    assert all(row.help for row in SETTINGS)
    assert len({row.name for row in SETTINGS}) == len(SETTINGS)
