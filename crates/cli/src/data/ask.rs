//! One question to the store.

use kv::Reply;

use super::op::Asked;
use crate::answer;
use crate::connect::Store;
use crate::exit::Error;
use crate::options::Options;
use crate::print::Output;

/// Asks, and tells the receipt where that is wanted.
pub async fn ask(
    asked: Asked,
    store: &dyn Store,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Reply, Error> {
    asked.op.validate()?;
    let reply = store.call(options.request(asked.op), asked.ttl).await?;
    if options.receipt {
        // Fails only for the data before it, which has its own end.
        let _ = answer::print_receipt(&reply.receipt, out);
    }
    Ok(reply)
}
