//! What every backend of the store port must do: one function a behaviour, run by each backend against itself.
//!
//! A backend says how it is opened ([`Backend`]) and, if it outlives its process, how it comes back ([`Durable`]); then
//! [`store_contract!`](crate::store_contract) and [`durable_store_contract!`](crate::durable_store_contract) make one
//! test of each behaviour. A behaviour that fails panics with what it saw.
//!
//! Backends may decide and settle in the background: what must come is waited for with a deadline, what must not come
//! is watched for a moment.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::inspect::Inspect;
use crate::store::Store;

pub mod accepting;
pub mod asking;
pub mod flow;
pub mod holders;
pub mod letters;
pub mod limits;
mod mesh;
pub mod order;
pub mod restarts;
pub mod settling;
pub mod starts;

/// A store that a person may ask, too.
pub trait Inspected: Store + Inspect {}

impl<T: Store + Inspect> Inspected for T {}

/// How a backend under test is opened. Each behaviour gets a fresh one.
pub trait Backend: Send {
    /// An empty store. It keeps some megabytes of events that nobody needs any more.
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn Inspected>>;
}

/// A backend that keeps its promises beyond the end of its process.
pub trait Durable: Backend {
    /// Ends `store` in order and opens what it kept. Holders of its subscriptions may still be alive.
    fn restart(&mut self, store: Arc<dyn Inspected>) -> BoxFuture<'_, Arc<dyn Inspected>>;

    /// Opens what would be there, had the process been killed now.
    fn kill(&mut self, store: Arc<dyn Inspected>) -> BoxFuture<'_, Arc<dyn Inspected>>;
}

/// Makes one test of every behaviour; the expression makes a fresh [`Backend`].
#[macro_export]
macro_rules! store_contract {
    ($backend:expr) => {
        $crate::contract_tests! { $backend;
            accepting::accepted_events_arrive_as_they_were_sent,
            accepting::an_empty_batch_is_taken,
            accepting::an_undeclared_topic_is_refused_by_every_call,
            accepting::an_unknown_subscription_is_refused,
            accepting::topics_are_apart,
            accepting::parallel_senders_lose_and_repeat_nothing,
            accepting::a_sender_that_goes_away_leaves_whole_batches,
            accepting::a_removed_topic_is_forgotten,
            accepting::declaring_again_changes_nothing_but_the_budget,
            flow::each_subscription_gets_what_its_selector_gives_it_once,
            flow::events_come_in_the_order_of_their_positions,
            flow::whoever_waits_is_woken,
            flow::no_more_is_handed_out_than_was_asked_for,
            flow::what_is_dropped_unsettled_comes_again_uncounted,
            flow::a_dropped_next_loses_nothing,
            flow::a_subscription_that_never_takes_blocks_nobody,
            flow::an_event_nobody_wants_is_kept_for_nobody,
            flow::a_slot_nobody_has_harms_nobody,
            settling::a_retry_comes_when_it_is_due_with_its_history,
            settling::a_retry_does_not_stop_what_comes_after_it,
            settling::attempts_add_up,
            settling::a_released_retry_keeps_its_count,
            settling::a_hold_counts_and_keeps_the_delivery,
            settling::a_held_delivery_that_is_released_waits_for_its_time,
            settling::an_ack_is_final,
            settling::outcomes_are_cut_to_their_bounds,
            letters::a_parked_letter_is_out_of_the_way_and_can_be_read,
            letters::letters_are_listed_page_by_page,
            letters::letters_are_selected_by_trigger_position_and_id,
            letters::a_redriven_letter_starts_afresh,
            letters::a_purged_letter_is_gone,
            letters::unsubscribing_forgets_the_letters,
            holders::a_second_holder_is_refused,
            holders::the_next_holder_takes_over_what_was_in_flight,
            holders::what_is_settled_after_its_holder_went_counts_once,
            holders::a_subscription_keeps_its_place_without_a_holder,
            holders::a_subscription_keeps_its_place_when_its_options_change,
            holders::unsubscribing_forgets,
            holders::a_forgotten_subscription_tells_its_holder,
            holders::what_is_settled_for_a_forgotten_subscription_does_not_touch_the_new_one,
            starts::now_means_from_the_subscription_on,
            starts::earliest_means_all_that_is_kept,
            starts::a_time_means_what_was_accepted_since,
            starts::a_position_means_that_and_what_follows,
            starts::a_position_to_come_is_waited_for,
            starts::a_start_matters_only_the_first_time,
            starts::what_waited_for_the_first_selector_comes_once,
            starts::a_changed_selector_decides_only_what_comes_later,
            order::ordered_events_come_by_position_due_or_not,
            order::an_ordered_hold_is_told_to_the_next_holder,
            order::what_is_given_back_takes_its_place_again,
            order::order_can_be_switched_on_and_off,
            limits::old_events_expire_though_nobody_reads,
            limits::old_events_are_not_handed_out,
            limits::a_bounded_backlog_keeps_the_newest,
            limits::a_bounded_backlog_does_not_touch_what_is_in_flight,
            limits::a_bound_set_later_counts_for_what_already_waits,
            limits::a_used_up_budget_names_its_holder_and_service_resumes,
            limits::replies_are_taken_a_little_beyond_a_used_up_budget,
            limits::parked_letters_use_budget_until_they_are_purged,
            limits::events_that_keep_moving_use_no_budget,
            asking::a_replay_asks_the_filter_and_leaves_pending_events_alone,
            asking::a_replay_brings_parked_letters_back,
            asking::a_replay_in_order_comes_in_order,
            asking::a_scan_walks_what_is_kept_until_told_to_stop,
            asking::an_event_can_be_explained,
            asking::statuses_tell_how_far_behind_everyone_is,
        }
    };
}

/// Makes one test of every behaviour across restarts; the expression makes a fresh [`Durable`] backend.
#[macro_export]
macro_rules! durable_store_contract {
    ($backend:expr) => {
        $crate::contract_tests! { $backend;
            restarts::a_restart_delivers_what_was_not_acked_and_nothing_else,
            restarts::attempts_outcomes_and_due_times_survive_a_restart,
            restarts::an_ordered_hold_survives_a_restart,
            restarts::parked_letters_survive_a_restart,
            restarts::what_was_in_flight_is_delivered_again,
            restarts::what_comes_before_the_first_selector_is_decided_by_it,
            restarts::a_start_matters_only_once_across_restarts,
            restarts::what_was_removed_stays_removed,
            restarts::a_kill_loses_nothing_that_was_accepted,
            restarts::a_kill_loses_no_letter,
        }
    };
}

/// The part that [`store_contract!`] and [`durable_store_contract!`] share.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($backend:expr; $($group:ident :: $behaviour:ident),+ $(,)?) => {
        $(
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                $crate::store::contract::$group::$behaviour(&mut $backend).await;
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_behaviour_is_in_the_list() {
        let list = include_str!("contract.rs");
        let groups = [
            ("accepting", include_str!("contract/accepting.rs")),
            ("asking", include_str!("contract/asking.rs")),
            ("flow", include_str!("contract/flow.rs")),
            ("holders", include_str!("contract/holders.rs")),
            ("letters", include_str!("contract/letters.rs")),
            ("limits", include_str!("contract/limits.rs")),
            ("order", include_str!("contract/order.rs")),
            ("restarts", include_str!("contract/restarts.rs")),
            ("settling", include_str!("contract/settling.rs")),
            ("starts", include_str!("contract/starts.rs")),
        ];
        for (group, text) in groups {
            let behaviours: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
                .collect();
            assert!(!behaviours.is_empty(), "{group} has behaviours");
            for behaviour in behaviours {
                let entry = format!("{group}::{behaviour},");
                assert!(list.contains(&entry), "{entry} is in no list");
            }
        }
    }
}
