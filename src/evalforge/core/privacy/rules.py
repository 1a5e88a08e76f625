"""The value rules by name, as the tables of fields use them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from evalforge.core.privacy.measures import any_number, boolean, epoch_of_this_time, score, setting, time
from evalforge.core.privacy.software import error_code, identifier, image, package, pod, release, zone
from evalforge.core.privacy.values import (
    code,
    error_type,
    label,
    locale,
    machine_id,
    model,
    name,
    trace_code,
    version,
    words,
)
from evalforge.core.span import Json


class Kind(StrEnum):
    """The value rules by name, as the tables of fields use them."""

    NUMBER = "number"
    AMOUNT = "amount"
    BOOLEAN = "boolean"
    NAME = "name"
    MODEL = "model"
    ERROR_TYPE = "error_type"
    LABEL = "label"
    WORDS = "words"
    VERSION = "version"
    CODE = "code"
    MACHINE_ID = "machine_id"
    TRACE_CODE = "trace_code"
    TIME = "time"
    LOCALE = "locale"
    EPOCH = "epoch"
    SCORE = "score"
    RELEASE = "release"
    POD = "pod"
    IMAGE = "image"
    PACKAGE = "package"
    ERROR_CODE = "error_code"
    IDENTIFIER = "identifier"
    ZONE = "zone"


RULE_OF: dict[Kind, Callable[[Json], Json]] = {
    Kind.NUMBER: setting,
    Kind.AMOUNT: any_number,
    Kind.BOOLEAN: boolean,
    Kind.NAME: name,
    Kind.MODEL: model,
    Kind.ERROR_TYPE: error_type,
    Kind.LABEL: label,
    Kind.WORDS: words,
    Kind.VERSION: version,
    Kind.CODE: code,
    Kind.MACHINE_ID: machine_id,
    Kind.TRACE_CODE: trace_code,
    Kind.TIME: time,
    Kind.LOCALE: locale,
    Kind.EPOCH: epoch_of_this_time,
    Kind.SCORE: score,
    Kind.RELEASE: release,
    Kind.POD: pod,
    Kind.IMAGE: image,
    Kind.PACKAGE: package,
    Kind.ERROR_CODE: error_code,
    Kind.IDENTIFIER: identifier,
    Kind.ZONE: zone,
}


def kept(value: Json, kinds: tuple[Kind, ...]) -> Json:
    """What the first rule that accepts the value keeps of it, or None."""
    for kind in kinds:
        found = RULE_OF[kind](value)
        if found is not None:
            return found
    return None
