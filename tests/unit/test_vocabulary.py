"""The table of states and moves is whole, and agrees with the reference's words."""

from __future__ import annotations

import pytest

from mailer.vocabulary import (
    MOVES,
    REFERENCE_STATES,
    STATE_MEANINGS,
    State,
    suppression_scope,
    way,
)


def test_every_state_has_its_moves_its_meaning_and_one_word_of_the_reference() -> None:
    assert set(MOVES) == set(STATE_MEANINGS) == set(State)
    words = [state for states in REFERENCE_STATES.values() for state in states]
    assert sorted(words) == sorted(State)


def test_every_state_can_be_reached() -> None:
    assert all(way(State.PENDING, state) for state in State if state is not State.PENDING)


@pytest.mark.parametrize(
    ("old", "new", "steps"),
    [
        (State.SENT, State.COMPLAINED, [State.DELIVERED, State.COMPLAINED]),
        (State.DELIVERED, State.BOUNCED, [State.BOUNCED]),
        (State.BOUNCED, State.DELIVERED, []),
        (State.CANCELLED, State.SENT, []),
        (State.UNCERTAIN, State.DELIVERED, [State.SENT, State.DELIVERED]),
    ],
)
def test_ways_lead_forward_only(old: State, new: State, steps: list[State]) -> None:
    assert way(old, new) == steps


@pytest.mark.parametrize(
    ("topic_id", "scope"),
    [("news/2024-01", "news"), ("news", "news"), (None, ""), ("", ""), ("/odd", "")],
)
def test_a_suppression_holds_within_the_topics_group(topic_id: str | None, scope: str) -> None:
    assert suppression_scope(topic_id) == scope
