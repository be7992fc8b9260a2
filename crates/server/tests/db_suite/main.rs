//! One suite for both databases: what `db` promises holds on SQLite and, where `BLOBKEEP_TEST_POSTGRES` names a server in which databases may
//! be made, on PostgreSQL. The last test of each looks whether every statement of `db` was executed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

#[path = "../common/database.rs"]
mod database;
mod identity;
mod instances;
mod postgres;
mod queue;
mod resources;
mod stage;
mod statements;
mod transactions;
mod vaults;

/// Makes of each step a test on each database, and of all of them the test of the statements.
macro_rules! suite {
    ($($part:ident::$step:ident),+ $(,)?) => {
        mod on_sqlite {
            use crate::stage::Stage;
            $(#[tokio::test]
            async fn $step() {
                crate::$part::$step(&Stage::sqlite().await).await;
            })+

            #[tokio::test]
            async fn every_statement_is_executed() {
                let executed = crate::statements::Executed::watch();
                $(crate::$part::$step(&Stage::sqlite().await).await;)+
                executed.expect_all();
            }
        }

        mod on_postgres {
            use crate::stage::Stage;
            $(#[tokio::test]
            async fn $step() {
                let Some(stage) = Stage::postgres().await else { return };
                crate::$part::$step(&stage).await;
            })+

            #[tokio::test]
            async fn every_statement_is_executed() {
                let executed = crate::statements::Executed::watch();
                $({
                    let Some(stage) = Stage::postgres().await else { return };
                    crate::$part::$step(&stage).await;
                })+
                executed.expect_all();
            }
        }
    };
}

suite! {
    transactions::what_is_not_committed_leaves_no_trace,
    transactions::of_writers_at_once_none_sees_what_another_is_at,
    transactions::a_reader_cannot_write,
    transactions::tables_that_are_up_to_date_stay_as_they_are,
    transactions::tables_of_a_newer_version_are_refused,
    transactions::a_lease_is_held_by_one,
    identity::facts_are_set_replaced_and_forgotten,
    identity::principals_are_found_by_each_of_their_names,
    identity::assignments_say_who_may_what_where,
    identity::definitions_have_names_of_their_own,
    identity::locks_are_found_around_a_scope,
    resources::subscriptions_and_aliases_fold_their_case,
    resources::groups_are_listed_by_pages_and_kept_while_used,
    resources::accounts_keep_their_connection,
    resources::blob_services_keep_what_a_protection_changed,
    resources::guards_and_their_links,
    resources::stamps_grow_with_every_change,
    resources::order_is_that_of_bytes,
    vaults::vaults_are_made_replaced_and_listed,
    vaults::policies_keep_their_versions,
    vaults::a_deleted_vault_takes_everything_along_and_brings_it_back,
    vaults::a_vault_is_purged_with_what_is_in_it,
    vaults::prunes_are_due_where_points_have_gone,
    vaults::exports_are_kept_for_a_while,
    instances::an_account_is_protected_once,
    instances::instances_move_through_their_states,
    instances::instances_are_due_for_backups_and_looks,
    instances::points_are_remembered_listed_and_counted,
    instances::ranges_go_with_their_instance,
    instances::an_instance_is_purged_with_its_points,
    queue::each_job_goes_to_one_of_two_workers_at_once,
    queue::who_lost_the_lease_changes_nothing,
    queue::jobs_are_listed_cancelled_and_forgotten,
    queue::operations_end_once,
}
