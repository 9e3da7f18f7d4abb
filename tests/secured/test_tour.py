"""The tour of the README, secured: the same tests."""

import pytest

from tests.e2e.test_tour import (
    test_clean_asks_first,
    test_dead_letters_are_listed_and_replayed,
    test_doctor,
    test_down_keeps_the_data,
    test_drain_finishes_everything,
    test_foreground,
    test_halt_proves_itself_and_keeps_the_queues,
    test_halt_twice,
    test_logs,
    test_publish_any_text,
    test_publish_bad_input,
    test_publish_file,
    test_publish_not_confirmed,
    test_publish_standard_input,
    test_scale_shares_the_work,
    test_slow_case_takes_turns,
    test_status,
    test_stop_drains,
)

__all__ = [
    "test_clean_asks_first",
    "test_dead_letters_are_listed_and_replayed",
    "test_doctor",
    "test_down_keeps_the_data",
    "test_drain_finishes_everything",
    "test_foreground",
    "test_halt_proves_itself_and_keeps_the_queues",
    "test_halt_twice",
    "test_logs",
    "test_publish_any_text",
    "test_publish_bad_input",
    "test_publish_file",
    "test_publish_not_confirmed",
    "test_publish_standard_input",
    "test_scale_shares_the_work",
    "test_slow_case_takes_turns",
    "test_status",
    "test_stop_drains",
]

pytestmark = pytest.mark.thorough
