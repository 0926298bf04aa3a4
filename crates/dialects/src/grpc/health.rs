//! grpc.health.v1 of a node: all its services are as the node is.

use std::pin::Pin;

use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use super::Asked;

/// The service.
pub(super) struct Health {
    /// The services it knows; "" stands for the node as a whole.
    pub names: &'static [&'static str],
}

impl Health {
    fn find(&self, request: &HealthCheckRequest) -> Result<(), Status> {
        let name = request.service.as_str();
        if name.is_empty() || self.names.contains(&name) {
            return Ok(());
        }
        Err(Status::not_found(format!(
            "there is no service '{name}' here: ask for '' or one of {:?}",
            self.names
        )))
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let (_, mut extensions, message) = request.into_parts();
        self.find(&message)?;
        let serving = *Asked::take(&mut extensions).store.serving.borrow();
        Ok(Response::new(answer(serving)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// An unknown service is answered as such and not refused, as grpc.health.v1 wants it of a watch.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (_, mut extensions, message) = request.into_parts();
        let is_known = self.find(&message).is_ok();
        let serving = WatchStream::new(Asked::take(&mut extensions).store.serving.clone());
        let answers = serving.map(move |serving| match is_known {
            true => Ok(answer(serving)),
            false => Ok(HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() }),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn answer(serving: bool) -> HealthCheckResponse {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}
