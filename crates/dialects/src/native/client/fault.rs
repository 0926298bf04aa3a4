//! Faults of one node: asked of that node itself, at its own address, and of no other.

use std::time::Duration;

use kv::Error;
use kv::fault::{Fault, Faults};

use super::attempt::Failure;
use super::call::{patience, silent, within};
use super::{Link, Shared};
use crate::native::cluster::faults;
use crate::native::proto;

/// Puts a fault on the node at an address, or takes it off; `None` = asks which are in force.
pub(super) async fn put(
    shared: &Shared,
    address: &str,
    fault: Option<Fault>,
    timeout: Duration,
) -> Result<Faults, Error> {
    fault.iter().try_for_each(Fault::validate)?;
    let node = shared.topology.named(address);
    let node =
        node.ok_or_else(|| Error::Invalid(format!("'{}' is not HOST:PORT", address.escape_debug())))?;
    let asked = async {
        let link = within(timeout, &node).await?;
        match tokio::time::timeout(patience(timeout), link.fault(fault, timeout)).await {
            Ok(answer) => answer,
            Err(_) => {
                link.broken();
                Err(silent(&node, timeout))
            }
        }
    };
    // A fault may be asked for again, so there is nothing to doubt: it is asked for once more.
    asked.await.map(faults::decode).map_err(|Failure { error, .. }| error)
}

impl Link {
    async fn fault(&self, fault: Option<Fault>, time: Duration) -> Result<proto::FaultsResponse, Failure> {
        match fault {
            None => self.timed(SHOW, &proto::ShowFaultsRequest {}, time).await,
            Some(Fault::Slow { micros }) => self.timed(SLOW, &proto::SlowRequest { micros }, time).await,
            Some(Fault::Restore) => self.timed(RESTORE, &proto::RestoreRequest {}, time).await,
            Some(Fault::Cut { from }) => self.timed(CUT, &proto::CutRequest { from }, time).await,
            Some(Fault::Heal) => self.timed(HEAL, &proto::HealRequest {}, time).await,
            Some(Fault::Kill) => self.timed(KILL, &proto::KillRequest {}, time).await,
        }
    }
}

const SHOW: &str = "/capstan.v1.Faults/Show";
const SLOW: &str = "/capstan.v1.Faults/Slow";
const RESTORE: &str = "/capstan.v1.Faults/Restore";
const CUT: &str = "/capstan.v1.Faults/Cut";
const HEAL: &str = "/capstan.v1.Faults/Heal";
const KILL: &str = "/capstan.v1.Faults/Kill";
