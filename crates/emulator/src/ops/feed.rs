//! The container of the change feed: read by the ordinary operations, written by none.

use super::Call;
use crate::error::AzureError;
use crate::feed::{FEED_CONTAINER, Publish, SEGMENTS};
use crate::operation::Operation;

/// Publishes what is to be seen by a request to the feed's container, and refuses what would change it.
pub(super) fn attend(call: &Call<'_>, operation: Operation) -> Result<(), AzureError> {
    if call.container() != FEED_CONTAINER || call.shared.read().account(call.account())?.feed.is_none() {
        return Ok(());
    }
    if !operation.only_reads() {
        return Err(AzureError::permission_mismatch());
    }
    let upto = if call.blob() == SEGMENTS { Publish::All } else { Publish::Due };
    call.shared.write().publish(call.account(), call.now_us, upto);
    Ok(())
}
