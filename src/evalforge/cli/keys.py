"""`evalforge keys new`: an API key for a caller of the service."""

from __future__ import annotations

import secrets
import sys

import click

from evalforge.cli.screen import print_json
from evalforge.core.callers import (
    KEY_PREFIX,
    KEY_RANDOM_BYTES,
    ROLE_MEANINGS,
    Role,
    caller_name,
    key_row_text,
    roles_of,
)
from evalforge.errors import RequestError

_ROLES = ", ".join(f"{role} ({meaning})" for role, meaning in ROLE_MEANINGS.items())


@click.group(name="keys", short_help="Make an API key for a caller of the service.")
def command() -> None:
    """Make an API key for a caller of the service."""


@command.command()
@click.option("--name", required=True, metavar="NAME", help="Whose key it is, such as nightly-schedule; reports tell it.")
@click.option("--roles", required=True, metavar="ROLE+ROLE", help=f"What the caller may do: {_ROLES}.")
@click.option("--json", "as_json", is_flag=True, help="The key and its row as one JSON object.")
def new(name: str, roles: str, as_json: bool) -> None:
    """Make a key, and the row for SERVICE_API_KEYS that lets it in. The key is shown once and kept nowhere.

    The row holds only the key's digest. To rotate a key add the new row beside the old one, hand the new key out, then take
    the old row away.
    """
    for option, check, given in (("--name", caller_name, name), ("--roles", roles_of, roles)):
        try:
            check(given)
        except ValueError as wrong:
            raise RequestError(f"{option}: got {given[:80]!a}; {wrong}", field=option) from wrong
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_RANDOM_BYTES)
    row = key_row_text(name, sorted(roles_of(roles), key=list(Role).index), key)
    if as_json:
        print_json({"key": key, "row": row}, sort_keys=False)
        return
    sys.stderr.write("the key, for the caller; it is shown this once:\n")
    click.echo(key)
    sys.stderr.write("the row, to add to SERVICE_API_KEYS (rows are separated by commas):\n")
    click.echo(row)
