"""authserver client bind|unbind"""

from __future__ import annotations

import argparse

from authserver.cli.common import CommandError, Subparsers, open_server
from authserver.oauth.trusted_issuer import InvalidIssuer, check_subject, service_account
from authserver.store.trusted_issuers import Binding, NoSuchBinding, SubjectBound


def add_to(actions: Subparsers) -> None:
    bind = actions.add_parser("bind", help="let a workload be this client: its token is the client's credential")
    bind.set_defaults(run=_bind)
    unbind = actions.add_parser("unbind", help="let a workload no longer be this client, at once")
    unbind.set_defaults(run=_unbind)
    for parser in (bind, unbind):
        parser.add_argument("client_id")
        parser.add_argument("--issuer", required=True, metavar="NAME", help="see 'authserver issuer list'")
        whom = parser.add_mutually_exclusive_group(required=True)
        whom.add_argument("--subject", help="as its tokens name it")
        whom.add_argument("--service-account", metavar="NAMESPACE/NAME", help="short for system:serviceaccount:...")


def _binding(options: argparse.Namespace) -> Binding:
    try:
        subject = service_account(options.service_account) if options.service_account else options.subject
        check_subject(subject)
    except InvalidIssuer as error:
        raise CommandError(str(error)) from None
    return Binding(options.issuer, subject, options.client_id)


def _bind(options: argparse.Namespace) -> None:
    binding = _binding(options)
    try:
        with open_server() as server:
            server.trusted_issuers.bind(binding)
    except NoSuchBinding:
        raise CommandError(f"there is no client '{binding.client_id}' or no issuer '{binding.issuer}'") from None
    except SubjectBound:
        raise CommandError(f"'{binding.subject}' is bound already: see 'authserver issuer show'") from None


def _unbind(options: argparse.Namespace) -> None:
    binding = _binding(options)
    try:
        with open_server() as server:
            server.trusted_issuers.unbind(binding)
    except NoSuchBinding:
        raise CommandError(f"'{binding.subject}' is not bound to '{binding.client_id}'") from None
