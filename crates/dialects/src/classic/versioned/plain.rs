//! The same service under a name without a package, for clients that were generated so.

use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Request, Uri};
use tonic::server::NamedService;

use super::proto::key_value_store_server::SERVICE_NAME;

/// The name.
pub(super) const NAME: &str = "KeyValueStore";

/// A service that is asked for by the name.
#[derive(Clone, Debug)]
pub(super) struct Plain<S>(S);

impl<S> Plain<S> {
    pub(super) fn new(service: S) -> Plain<S> {
        Plain(service)
    }
}

impl<S> NamedService for Plain<S> {
    const NAME: &'static str = NAME;
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Plain<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        if let Some(uri) = packaged(request.uri()) {
            *request.uri_mut() = uri;
        }
        self.0.call(request)
    }
}

/// The place of a method under the other name; `None` = it is no place of this service.
fn packaged(uri: &Uri) -> Option<Uri> {
    let method = uri.path().strip_prefix('/')?.strip_prefix(NAME)?.strip_prefix('/')?;
    let path = PathAndQuery::try_from(format!("/{SERVICE_NAME}/{method}")).ok()?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_is_found_under_the_other_name() {
        let packaged = |text: &'static str| packaged(&Uri::from_static(text)).map(|uri| uri.to_string());
        let expect = "http://h:1/project.KeyValueStore/GetRange";
        assert_eq!(packaged("http://h:1/KeyValueStore/GetRange").as_deref(), Some(expect));
        assert_eq!(packaged("/KeyValueStore/Get").as_deref(), Some("/project.KeyValueStore/Get"));
        assert_eq!(packaged("/project.KeyValueStore/Get"), None);
        assert_eq!(packaged("/KeyValueStoreX/Get"), None);
    }
}
