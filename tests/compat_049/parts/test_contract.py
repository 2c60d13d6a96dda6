"""The shipped parts keep the contract of storages, as far as four parts can; what they cannot stands here with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from huey.storage.base import Storage
from huey.storage.legacy import LegacyStorage
from huey.storage.legacy.components import Components
from huey.testing.clock import FakeClock
from huey.testing.contract.claims import ClaimRules
from huey.testing.contract.deaths import DeathRules
from huey.testing.contract.emptying import EmptyingRules
from huey.testing.contract.enqueueing import EnqueueRules
from huey.testing.contract.finishes import FinishRules
from huey.testing.contract.house import HouseRules
from huey.testing.contract.looking import LookingRules
from huey.testing.contract.retrying import RetryingRules
from huey.testing.contract.revocations import RevocationRules
from huey.testing.contract.ticks import TickRules
from huey.testing.contract.tools import claim_ids, task
from huey.testing.contract.values import ValueRules
from huey.testing.contract.waking import WakingRules

NOT_PROMISED: dict[str, tuple[str, ...]] = {
    "Parts have no order of priorities: such a task is refused.": (
        "test_a_released_task_comes_before_those_of_the_next_lower_priority",
        "test_higher_priority_comes_first",
        "test_of_equal_priority_the_older_place_comes_first",
        "test_the_order_is_the_same_one_by_one",
        "test_a_record_comes_back_as_it_was_put",
        "test_many_calls_of_one_function_come_back_as_one_by_one",
        "test_the_task_of_a_tick_is_like_any_other",
        "test_a_task_can_be_looked_at_in_any_state",
        "test_no_more_are_found_than_asked_for",
        "test_one_look_and_a_list_tell_the_same",
        "test_queued_tasks_are_found_in_claim_order_and_then_in_order_of_time",
        "test_tasks_are_found_by_name",
        "test_without_a_state_all_are_found",
        "test_counts_are_of_now",
        "test_a_forked_child_goes_on_with_the_same_instance",
    ),
    "A list is in the order of writing, and what is due comes before it.": (
        "test_of_equal_place_the_smaller_id_comes_first",
        "test_a_scheduled_task_takes_the_place_of_its_time",
        "test_shutdown_never_costs_a_try",
        "test_those_turned_away_are_not_replaced_in_the_same_turn",
        "test_one_turn_makes_a_bounded_number_of_scheduled_tasks_ready_soonest_first",
        "test_a_turn_tells_when_the_next_scheduled_task_is_due",
    ),
    "Nothing is found by its id: the same id goes in twice.": (
        "test_enqueue_is_idempotent_by_task_id",
        "test_enqueue_leaves_a_running_task_as_it_is",
        "test_enqueue_leaves_an_ended_task_as_it_is",
        "test_of_one_id_twice_in_a_call_the_first_wins",
        "test_a_tick_leaves_a_task_that_is_held_as_it_is",
    ),
    "Ended tasks and their errors are not kept.": (
        "test_a_failed_task_is_kept_with_its_reason_and_its_error",
        "test_a_cancelled_task_is_kept_with_its_reason",
        "test_the_last_error_stays_until_there_is_another",
        "test_an_ended_task_can_be_put_back_as_if_it_were_new",
        "test_an_expired_task_that_is_put_back_by_hand_runs",
        "test_a_revoked_task_that_is_put_back_by_hand_runs",
        "test_a_task_that_is_put_back_by_hand_leaves_no_old_error",
        "test_only_ended_tasks_are_put_back",
        "test_other_tasks_are_found_by_age",
        "test_one_turn_writes_many_ends",
        "test_ended_tasks_are_pruned_when_their_retention_is_over",
        "test_an_expired_task_is_cancelled_instead_of_handed_out",
        "test_listen_wakes_when_a_task_is_put_back_by_hand",
        "test_a_turn_that_cannot_be_written_changes_nothing",
    ),
    "A revocation is a value of the store and knows no task: it stays until restored, or for once until used; what runs is not stopped.": (
        "test_a_cancelled_running_task_may_end_in_its_own_way",
        "test_a_cancelled_running_task_never_goes_back_to_queued",
        "test_a_cancelled_running_task_never_goes_back_to_queued_for_later_either",
        "test_a_cancelled_task_that_never_started_is_cancelled_by_the_next_claim",
        "test_a_dead_workers_cancelled_task_is_named_to_its_heir",
        "test_a_mark_for_once_goes_with_its_task_also_when_the_name_is_what_bars_it",
        "test_a_mark_past_its_time_is_not_handed_over_and_not_removed",
        "test_a_mark_stays_while_its_task_is_not_put_in",
        "test_a_name_revoked_for_once_costs_only_the_next_due_task",
        "test_a_name_that_is_somebodys_id_bars_only_the_name",
        "test_a_revocation_for_once_goes_with_the_run_it_prevents",
        "test_a_revoked_name_means_present_and_future_tasks",
        "test_a_revoked_task_is_cancelled_when_it_is_due",
        "test_a_running_task_that_is_cancelled_is_named_in_the_next_turns_of_its_worker",
        "test_a_task_that_met_its_mark_carries_it_however_long_it_waits",
        "test_a_tick_obeys_the_mark_of_its_task",
        "test_marks_of_ids_that_never_came_are_pruned",
        "test_revoke_is_a_mark_that_can_be_restored_until_the_claim_obeys",
        "test_the_mark_of_a_name_is_no_mark_of_its_tasks",
        "test_the_mark_of_an_unknown_id_is_kept_for_a_week",
        "test_the_mark_of_an_unknown_id_is_obeyed_once_if_it_was_for_once",
        "test_the_mark_of_an_unknown_id_waits_for_its_task",
        "test_what_has_ended_is_beyond_revoking",
    ),
    "Suspects have no lane of their own: each runs alone in the worker that claims it.": (
        "test_a_quarantine_worker_takes_nothing_else",
        "test_a_suspect_is_for_workers_that_take_suspects",
        "test_a_suspect_that_ran_to_its_end_is_none_any_more",
        "test_suspects_are_found_apart_and_among_the_ready",
        "test_suspects_come_first_for_a_worker_that_takes_both",
        "test_what_others_take_wakes_no_worker_that_does_not",
    ),
    "A task for later is written to the queue first, and a worker moves it to the schedule.": (
        "test_an_emptied_queue_keeps_its_schedule",
        "test_an_emptied_schedule_leaves_what_is_ready",
        "test_the_names_of_3x_count_and_empty",
        "test_what_waits_is_listed_as_messages",
    ),
    "A queue is not paused.": (
        "test_after_a_flush_all_begins_anew",
        "test_all_is_still_there_after_close",
        "test_flush_removes_everything",
        "test_listen_finds_nothing_while_paused_and_wakes_when_resumed",
        "test_prune_leaves_what_has_its_time_before_it",
        "test_whether_the_queue_is_paused_can_be_seen",
        "test_while_paused_finishes_are_written",
        "test_while_paused_nothing_is_claimed",
    ),
    "A schedule is looked at each second, and a queue that does not block after a while: who listens is not woken by others.": (
        "test_listen_gives_up_after_its_time",
        "test_listen_returns_when_the_bell_rings",
        "test_listen_wakes_when_a_task_is_put_back",
        "test_listen_wakes_when_a_task_is_released",
        "test_no_enqueue_is_missed_by_who_works_and_listens_in_turn",
        "test_who_listens_is_woken_and_need_not_look",
    ),
    "Values past their time are not read, but stay until somebody wants to take them.": (
        "test_a_value_past_its_time_is_not_taken_away",
        "test_many_things_past_their_time_go_in_bounded_steps",
        "test_values_past_their_time_are_pruned",
    ),
    "A part hands out by number, and its messages are weighed when they are there: 32 at a time.": (
        "test_a_turn_claims_no_more_bytes_than_its_measure_and_one_task",
        "test_what_a_turn_leaves_for_its_weight_is_not_touched",
    ),
    "A turn renews a lease when the last sign of life is a beat old; two who take over share what there is, each task once.": (
        "test_a_turn_makes_its_worker_known_and_renews_its_lease",
        "test_a_dead_worker_is_taken_over_once",
    ),
}


class TestShippedParts(
    EnqueueRules,
    ClaimRules,
    FinishRules,
    DeathRules,
    TickRules,
    RevocationRules,
    RetryingRules,
    WakingRules,
    LookingRules,
    ValueRules,
    EmptyingRules,
    HouseRules,
):
    result_ttl = None

    @pytest.fixture
    def storage(self, another: Callable[[], Storage]) -> Storage:
        return another()

    @pytest.fixture
    def another(self, clock: FakeClock, make_shipped: Callable[[], tuple[Any, Any, Any]]) -> Iterator[Callable[[], Storage]]:
        made: list[Storage] = []

        def make() -> Storage:
            made.append(LegacyStorage(Components(*make_shipped()), clock=clock))
            return made[-1]

        yield make
        for storage in made:
            storage.close()

    def test_a_turn_claims_no_more_bytes_than_its_limit(self, storage: Storage) -> None:
        storage.enqueue([task(f"light-{n:03}") for n in range(64)])
        storage.enqueue([task(f"heavy-{n:03}", payload=bytes(400_000)) for n in range(80)])

        assert [len(claim_ids(storage, 256)) for _ in range(3)] == [96, 32, 16]


for names in NOT_PROMISED.values():
    for name in names:
        assert hasattr(TestShippedParts, name), name
        setattr(TestShippedParts, name, None)
