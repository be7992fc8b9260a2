//! Which datasource types can be protected. The same in every location.

use std::sync::Arc;

use blobkeep_arm::feature::FeatureRequest;
use http::Method;

use super::{Access, Answer, Request, Route};
use crate::App;
use crate::error::ApiResult;

/// Routes of this file.
pub const ROUTES: &[Route] = &[Route {
    operation: "DataProtection_CheckFeatureSupport",
    method: Method::POST,
    pattern: "/subscriptions/{subscription}/providers/Microsoft.DataProtection/locations/{location}/checkFeatureSupport",
    access: Access::Action("Microsoft.DataProtection/locations/checkFeatureSupport/action"),
    handler: |app, request| Box::pin(check(app, request)),
}];

async fn check(_app: Arc<App>, request: Request) -> ApiResult<Answer> {
    let wanted = FeatureRequest::parse(&request.json()?)?;
    Ok(Answer::ok(wanted.answer()))
}
