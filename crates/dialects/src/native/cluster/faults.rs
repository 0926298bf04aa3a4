//! The service `Faults`, and its messages from and to [`kv::fault`].

use kv::Error;
use kv::fault::{Fault, Faults};
use tonic::{Request, Response, Status};

use super::Call;
use crate::native::{proto, status};

/// The service.
pub(in crate::native) struct Service;

/// What each of its methods answers.
type Answer = Result<Response<proto::FaultsResponse>, Status>;

#[tonic::async_trait]
impl proto::faults_server::Faults for Service {
    async fn show(&self, request: Request<proto::ShowFaultsRequest>) -> Answer {
        put(request, |_| None)
    }

    async fn slow(&self, request: Request<proto::SlowRequest>) -> Answer {
        put(request, |message| Some(Fault::Slow { micros: message.micros }))
    }

    async fn restore(&self, request: Request<proto::RestoreRequest>) -> Answer {
        put(request, |_| Some(Fault::Restore))
    }

    async fn cut(&self, request: Request<proto::CutRequest>) -> Answer {
        put(request, |message| Some(Fault::Cut { from: message.from }))
    }

    async fn heal(&self, request: Request<proto::HealRequest>) -> Answer {
        put(request, |_| Some(Fault::Heal))
    }

    async fn kill(&self, request: Request<proto::KillRequest>) -> Answer {
        put(request, |_| Some(Fault::Kill))
    }
}

/// Puts the fault that a message means on the node, if it makes sense.
fn put<T>(request: Request<T>, fault: impl FnOnce(T) -> Option<Fault>) -> Answer {
    let Call { store, message, .. } = Call::of(request)?;
    let refuse = |error: Error| status::to_status(&error);
    let fault = fault(message);
    fault.iter().try_for_each(Fault::validate).map_err(refuse)?;
    store.admin.fault(fault).map(encode).map(Response::new).map_err(refuse)
}

/// The message of the faults of a node.
pub(in crate::native) fn encode(faults: Faults) -> proto::FaultsResponse {
    let Faults { node, lab, slow_micros, cut } = faults;
    proto::FaultsResponse { node, lab, slow_micros, cut }
}

/// The faults of a node in a message.
pub(in crate::native) fn decode(message: proto::FaultsResponse) -> Faults {
    let proto::FaultsResponse { node, lab, slow_micros, cut } = message;
    Faults { node, lab, slow_micros, cut }
}
