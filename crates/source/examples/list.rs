//! Lists every blob of an account and says how long that took: what an unchanged backup is measured against.
//!
//! `BLOBKEEP_CONNECTION_STRING=… cargo run --release -p blobkeep-source --example list`

use std::error::Error;
use std::time::Instant;

use blobkeep_source::{AzureAccount, AzureOptions};
use blobkeep_vault::Source;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let account =
        AzureAccount::new(AzureOptions::from_connection_string(&std::env::var("BLOBKEEP_CONNECTION_STRING")?)?)?;
    let began = Instant::now();
    let (mut blobs, mut bytes, mut pages) = (0_u64, 0_u64, 0_u64);
    for container in account.containers().await? {
        let mut cursor: Option<String> = None;
        loop {
            let page = account.list(&container.name, "", cursor.as_deref()).await?;
            pages += 1;
            blobs += page.entries.len() as u64;
            bytes += page.entries.iter().map(|entry| entry.size_bytes).sum::<u64>();
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{blobs} blobs, {bytes} bytes, {pages} pages: {seconds:.2} s, {:.0} blobs/s", blobs as f64 / seconds);
    Ok(())
}
