"""`evalforge firestore indexes`: what deploys the indexes that the queries need."""

from __future__ import annotations

import click

from evalforge.config import setting_value
from evalforge.stores.firestore_indexes import deployment_text, gcloud_commands


@click.group(name="firestore", short_help="Print the indexes that Firestore needs, to deploy them.")
def command() -> None:
    """Print what has to be deployed to Firestore."""


@command.command()
@click.option("--gcloud", "as_commands", is_flag=True, help="gcloud commands that do the same, in place of the file.")
def indexes(as_commands: bool) -> None:
    """Print firestore.indexes.json for the collections of FIRESTORE_COLLECTION_PREFIX, as the Firebase CLI deploys it.

    It exempts every field from indexing, declares the indexes that the queries need, and has Firestore delete what has
    expired. Nothing is deployed, and no other setting is needed than the prefix and, for --gcloud, FIRESTORE_DATABASE:

    \b
    evalforge firestore indexes --gcloud | sh -x
    evalforge firestore indexes > firestore.indexes.json
    """
    prefix = setting_value("FIRESTORE_COLLECTION_PREFIX")
    if as_commands:
        click.echo("\n".join(gcloud_commands(prefix, setting_value("FIRESTORE_DATABASE"))))
    else:
        click.echo(deployment_text(prefix), nl=False)
