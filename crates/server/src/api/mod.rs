//! The API: what a request and an answer are, and the one table of routes.
//!
//! A handler does four things: authorize, validate, change state, enqueue. The front door ([`front`]) has authorized the route's own
//! action on the path's own scope before the handler runs ([`Request::granted`]); a handler authorizes what else the request implies
//! (a datasource, a policy). No handler here may do slow work: that is a job. Those that look into points ([`blobkeep`]) end after seconds.

pub mod account_names;
pub mod answer;
pub mod authorization;
pub mod blob_services;
pub mod blobkeep;
pub mod catalogue;
mod conditions;
mod critical;
pub mod cross_region;
mod custom_role;
pub mod deleted_instances;
pub mod deleted_vaults;
pub mod discovery;
mod encryption;
pub mod exports;
pub mod features;
pub mod front;
pub mod graph;
pub mod guard_proxies;
pub mod guard_requests;
pub mod guards;
pub mod instances;
pub mod jobs;
pub mod locks;
pub mod operations;
mod page;
pub mod points;
pub mod policies;
pub mod principals;
pub mod protection;
pub mod providers;
pub mod rehydrate;
pub mod request;
pub mod resource_groups;
pub mod resources;
pub mod restores;
pub mod role_definitions;
pub mod route;
pub mod storage_accounts;
pub mod subscriptions;
pub mod sync;
pub mod tags;
pub mod token;
pub mod vaults;
// One `pub mod` line per further resource follows here, as the files come; its table goes into `routes`.

pub use answer::Answer;
pub use request::{ApiVersion, Request};
pub use route::{Access, Handler, HandlerFuture, Route};

/// All routes: the list of operations, and what a coverage test drives.
pub fn routes() -> Vec<&'static Route> {
    let tables: &[&'static [Route]] = &[
        token::ROUTES,
        discovery::ROUTES,
        subscriptions::ROUTES,
        resource_groups::ROUTES,
        resources::ROUTES,
        tags::ROUTES,
        providers::ROUTES,
        storage_accounts::ROUTES,
        blob_services::ROUTES,
        account_names::ROUTES,
        authorization::ROUTES,
        role_definitions::ROUTES,
        locks::ROUTES,
        principals::ROUTES,
        graph::ROUTES,
        operations::ROUTES,
        catalogue::ROUTES,
        vaults::ROUTES,
        policies::ROUTES,
        instances::ROUTES,
        protection::ROUTES,
        deleted_instances::ROUTES,
        points::ROUTES,
        restores::ROUTES,
        jobs::ROUTES,
        features::ROUTES,
        sync::ROUTES,
        rehydrate::ROUTES,
        cross_region::ROUTES,
        exports::ROUTES,
        guards::ROUTES,
        guard_requests::ROUTES,
        guard_proxies::ROUTES,
        deleted_vaults::ROUTES,
        blobkeep::jobs::ROUTES,
        blobkeep::policies::ROUTES,
        blobkeep::browse::ROUTES,
        blobkeep::search::ROUTES,
        blobkeep::diff::ROUTES,
        blobkeep::verify::ROUTES,
        blobkeep::accounts::ROUTES,
        // One line per further resource follows here.
    ];
    tables.iter().flat_map(|table| table.iter()).collect()
}
