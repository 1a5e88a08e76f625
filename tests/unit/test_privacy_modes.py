"""Text modes: the grammar of paths, and which field has which mode."""

from __future__ import annotations

import pytest

from evalforge.core.privacy.modes import SECTIONS, WHOLE_FIELDS, TextMode, TextPolicy, canonical_path, parse_paths


@pytest.mark.parametrize("field", WHOLE_FIELDS)
def test_whole_fields_stand_alone(field: str) -> None:
    assert parse_paths(field) == (field,)
    assert parse_paths(f" {field.upper()} ,") == (field.upper(),)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_takes_a_dotted_path(section: str) -> None:
    path = f"{section}.check.reasoning"
    assert parse_paths(path) == (path,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("*", "name each field"),
        ("input,*", "name each field"),
        ("metadata.*", "name each field"),
        ("metadata", "holds more than text"),
        ("tags", "holds more than text"),
        ("evaluation", "holds more than text"),
        ("evaluation.check", "wants a name and a field"),
        ("notes", "is no field"),
        ("input.", "is no field"),
        (".input", "is no field"),
        ("metadata.user.email", "names a personal field"),
        ("attributes.session_id", "names a personal field"),
        ("metadata.password_note", "names a personal field"),
        ("tags.pii.notes", "names a personal field"),
    ],
)
def test_what_is_no_path_and_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_paths(text)


@pytest.mark.parametrize("path", ["metadata.user_message", "metadata.customerQuestion", "attributes.email_body"])
def test_what_a_person_wrote_may_be_named(path: str) -> None:
    assert parse_paths(path) == (path,)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("metadata.userNotes", "Metadata.user_notes"),
        ("attributes.gen_ai.prompt", "attributes.gen-ai-prompt"),
        ("evaluation.helpfulness-check.reasoning", "evaluation.helpfulness_check.reasoning"),
        ("INPUT", "input"),
    ],
)
def test_spellings_of_one_path(one: str, other: str) -> None:
    assert canonical_path(one) == canonical_path(other)


def test_neighbours_of_a_path_are_other_paths() -> None:
    policy = TextPolicy.of(["metadata.notes"])
    assert policy.mode_of("metadata.notes") is TextMode.SCRUBBED
    for path in ("metadata.notes_private", "metadata.note", "attributes.notes", "metadata", "input"):
        assert policy.mode_of(path) is TextMode.CLOSED


def test_open_takes_both_settings() -> None:
    policy = TextPolicy.of(["input", "output"], ["output"])
    assert policy.mode_of("input") is TextMode.SCRUBBED
    assert policy.mode_of("output") is TextMode.OPEN
    with pytest.raises(ValueError, match="PII_TEXT_ALLOWLIST does not name prompt"):
        TextPolicy.of(["input"], ["input", "prompt"])


def test_without_fields_only_explanations_are_left() -> None:
    policy = TextPolicy.of(["input"], ["input"], "closed").without_fields()
    assert policy.mode_of("input") is TextMode.CLOSED
    assert policy.explanations is TextMode.CLOSED
    assert TextPolicy.of(["input"]).without_fields() == TextPolicy()


def test_the_default_keeps_explanations_only() -> None:
    assert TextPolicy.of() == TextPolicy()
    assert TextPolicy().explanations is TextMode.SCRUBBED
    assert not TextPolicy().names_fields
