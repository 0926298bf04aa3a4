//! Which cluster a request is for, in its metadata, and the refusal of a node of another one.
//!
//! The refusal is no [`kv::Error`] of its own: stores do not know of it, and a client treats the node as one that is not there.

use std::collections::HashMap;

use kv::cluster::Cluster;
use kv::{ClusterId, Error};
use tonic::codegen::http::{HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::status::{self, DOMAIN};

/// The metadata of a request that tells which cluster it is for: its id, as 16 hexadecimal digits.
pub const CLUSTER_METADATA: &str = "capstan-cluster";

pub(super) const REASON: &str = "ANOTHER_CLUSTER";

/// Refuses a request for another cluster, and every one as long as the node belongs to none.
pub(super) fn check(cluster: &dyn Cluster, metadata: &MetadataMap) -> Result<(), Status> {
    let own = cluster.id().map_err(|error| status::to_status(&error))?;
    let Some(asked) = metadata.get(CLUSTER_METADATA) else { return Ok(()) };
    let asked = asked.to_str().map_err(|error| error.to_string()).and_then(str::parse::<ClusterId>);
    match asked {
        Ok(asked) if asked == own => Ok(()),
        Ok(asked) => Err(refusal(own, asked)),
        Err(why) => Err(status::to_status(&Error::Invalid(format!(
            "the metadata {CLUSTER_METADATA} makes no sense: {why}"
        )))),
    }
}

fn refusal(own: ClusterId, asked: ClusterId) -> Status {
    let text = format!(
        "this node is of cluster {own}, and the request is for cluster {asked}: nothing was done; ask a node of that one"
    );
    let metadata = HashMap::from([("outcome".into(), "failed".into()), ("cluster".into(), own.to_string())]);
    let details = ErrorDetails::with_error_info(REASON, DOMAIN, metadata);
    Status::with_error_details(Code::FailedPrecondition, text, details)
}

/// The cluster of the node that refused a request because it was for another.
pub(super) fn refused_by(status: &Status) -> Option<ClusterId> {
    let info = status.get_details_error_info()?;
    if info.domain != DOMAIN || info.reason != REASON {
        return None;
    }
    info.metadata.get("cluster")?.parse().ok()
}

/// The header of requests for a cluster.
pub(super) fn header(cluster: ClusterId) -> (HeaderName, HeaderValue) {
    let value = cluster.to_string().parse().expect("digits can be a header");
    (HeaderName::from_static(CLUSTER_METADATA), value)
}
