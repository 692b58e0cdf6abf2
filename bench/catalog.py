"""What is measured, by key: names for the tables, and for who asks what there is before anything is installed."""

from __future__ import annotations

CEILING, PLAIN_GUNICORN = "ceiling", "plain-gunicorn"

OURS = {
    CEILING: "empty Falcon endpoint",
    PLAIN_GUNICORN: "empty Falcon endpoint, gunicorn's own worker",
    **{
        key: name
        for token_format in ("opaque", "jwt")
        for kind, proof in (("secret", "secret"), ("key", "private_key_jwt"))
        for key, name in (
            (f"token-{token_format}-{kind}", f"token, {token_format}, {proof}"),
            (f"introspect-{token_format}-active-{kind}", f"introspect active, {token_format}, {proof}"),
            (f"introspect-{token_format}-inactive-{kind}", f"introspect revoked, {token_format}, {proof}"),
            (f"revoke-{token_format}-{kind}", f"revoke, {token_format}, {proof}"),
        )
    },
    "protected-public": "/public",
    "protected-introspect": "/protected, introspecting each time",
    "protected-cached": "/protected, cached, with feed",
    "protected-jwt": "/protected, JWT, with feed",
    "feed": "feed, nothing new",
}
PEERS = {
    f"{key}-{act}": f"{name}: {label}"
    for key, name in (
        ("oidc-provider-1", "oidc-provider, 1 process"),
        ("oidc-provider-2", "oidc-provider, 2 processes"),
        ("django-hashed", "django-oauth-toolkit, hashed secrets"),
        ("django-unhashed", "django-oauth-toolkit, unhashed secrets"),
    )
    for act, label in (("token", "token"), ("introspect", "introspect active"))
}
NAMES = OURS | PEERS
