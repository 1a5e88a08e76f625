"""`evalforge firestore indexes`: the file that deploys what the queries need."""

from __future__ import annotations

import click

from evalforge.config import setting_value
from evalforge.stores.firestore_indexes import deployment_text


@click.group(name="firestore", short_help="Print the indexes that Firestore needs, to deploy them.")
def command() -> None:
    """Print what has to be deployed to Firestore."""


@command.command()
def indexes() -> None:
    """Print firestore.indexes.json for the collections of FIRESTORE_COLLECTION_PREFIX, as the Firebase CLI deploys it.

    It exempts every field from indexing, declares the indexes that the queries need, and has Firestore delete what has
    expired. Nothing is deployed and no other setting is needed:

    \b
    evalforge firestore indexes > firestore.indexes.json
    firebase deploy --only firestore:indexes --project PROJECT
    """
    click.echo(deployment_text(setting_value("FIRESTORE_COLLECTION_PREFIX")), nl=False)
