//! Every row of the wire, with messages written down here by their field numbers: what clients of other makes send and read.

use dialects::classic::pairs::PairClient;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::key;
use crate::fake::{Server, Setup};

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(int32, tag = "1")]
    key: i32,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(int32, tag = "1")]
    number: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct Keys {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(int32, repeated, tag = "2")]
    keys: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

struct Client(Grpc<Channel>);

impl Client {
    async fn of(server: &Server) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        Client(Grpc::new(endpoint.connect().await.unwrap()).max_decoding_message_size(usize::MAX))
    }

    async fn call<A, B>(&mut self, path: &'static str, message: A) -> Result<B, Status>
    where
        A: Message + 'static,
        B: Message + Default + 'static,
    {
        self.0.ready().await.unwrap();
        let path = PathAndQuery::from_static(path);
        let answered = self.0.unary(Request::new(message), path, ProstCodec::default()).await;
        answered.map(|answer| answer.into_inner())
    }

    async fn insert(&mut self, key: i32, value: &str) -> Result<i32, Status> {
        let pair = Pair { key, value: value.into() };
        let answer: Number = self.call("/keyvalue.KeyValueService/Insert", pair).await?;
        Ok(answer.number)
    }

    async fn consult(&mut self, key: i32) -> Result<String, Status> {
        let answer: Text = self.call("/keyvalue.KeyValueService/Consult", Number { number: key }).await?;
        Ok(answer.text)
    }

    async fn activate(&mut self, host: &str) -> Result<i32, Status> {
        let host = Text { text: host.into() };
        let answer: Number = self.call("/keyvalue.KeyValueService/Activate", host).await?;
        Ok(answer.number)
    }

    async fn register(&mut self, host: &str, keys: &[i32]) -> Result<i32, Status> {
        let keys = Keys { host: host.into(), keys: keys.into() };
        let answer: Number = self.call("/central.CentralStorageService/Register", keys).await?;
        Ok(answer.number)
    }

    async fn map(&mut self, key: i32) -> Result<String, Status> {
        let answer: Text = self.call("/central.CentralStorageService/Map", Number { number: key }).await?;
        Ok(answer.text)
    }
}

#[tokio::test]
async fn insert_stores_once_and_consult_reads() {
    let server = Server::start("classic/pairs", &[]).await;
    let mut client = Client::of(&server).await;
    assert_eq!(client.consult(7).await.unwrap(), "");
    assert_eq!(client.insert(7, "one, with a comma").await.unwrap(), 0);
    assert_eq!(client.insert(7, "other").await.unwrap(), -1);
    assert_eq!(client.consult(7).await.unwrap(), "one, with a comma");
    assert_eq!(client.insert(-7, "").await.unwrap(), 0);
    assert_eq!(client.insert(-7, "now in use").await.unwrap(), -1);
    assert_eq!(client.consult(-7).await.unwrap(), "");
}

#[tokio::test]
async fn keys_lie_in_the_store_in_the_order_of_their_numbers() {
    let server = Server::start("classic/pairs", &[]).await;
    let mut client = Client::of(&server).await;
    let numbers = [3, i32::MIN, -1, i32::MAX, 0, 1, -256, 256];
    for number in numbers {
        assert_eq!(client.insert(number, &format!("text {number}")).await.unwrap(), 0);
    }
    let mut sorted = numbers;
    sorted.sort_unstable();
    assert_eq!(server.store.keys(), sorted.map(|number| key(number).to_vec()));
    assert_eq!(server.store.value(&key(-256)).unwrap(), "text -256");
}

#[tokio::test]
async fn activate_of_a_server_not_set_up_for_it_is_0_whatever_the_argument() {
    let server = Server::start("classic/pairs", &[]).await;
    let mut client = Client::of(&server).await;
    client.insert(1, "one").await.unwrap();
    for host in ["", "no address", "127.0.0.1:1"] {
        assert_eq!(client.activate(host).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn register_counts_keys_and_map_names_the_last_owner() {
    let server = Server::start("classic/central", &[]).await;
    let mut client = Client::of(&server).await;
    assert_eq!(client.map(1).await.unwrap(), "");
    assert_eq!(client.register("first:5001", &[1, 2, -3, 2]).await.unwrap(), 4);
    assert_eq!(client.register("second:5002", &[2]).await.unwrap(), 1);
    assert_eq!(client.register("second:5002", &[]).await.unwrap(), 0);
    assert_eq!(client.map(1).await.unwrap(), "first:5001");
    assert_eq!(client.map(2).await.unwrap(), "second:5002");
    assert_eq!(client.map(-3).await.unwrap(), "first:5001");
    assert_eq!(server.store.len(), 3);
}

#[tokio::test]
async fn activate_registers_and_returns_how_many() {
    let central = Server::start("classic/central", &[]).await;
    let server = Server::start("classic/pairs", &["activate"]).await;
    let mut client = Client::of(&server).await;
    client.insert(1, "one").await.unwrap();
    client.insert(-2, "two").await.unwrap();
    assert_eq!(client.activate(&central.address).await.unwrap(), 2);
    let mut directory = Client::of(&central).await;
    assert_eq!(directory.map(-2).await.unwrap(), server.address);
}

#[tokio::test]
async fn terminate_answers_0_or_the_number_of_keys_and_ends_the_server() {
    let (pairs, central) =
        (Server::start("classic/pairs", &[]).await, Server::start("classic/central", &[]).await);
    let mut client = Client::of(&central).await;
    client.register("first:5001", &[5, 6, 5]).await.unwrap();
    let answer: Number = client.call("/central.CentralStorageService/Terminate", Nothing {}).await.unwrap();
    assert_eq!((answer.number, central.ended()), (2, 1));
    let mut client = Client::of(&pairs).await;
    let answer: Number = client.call("/keyvalue.KeyValueService/Terminate", Nothing {}).await.unwrap();
    assert_eq!((answer.number, pairs.ended()), (0, 1));
}

#[tokio::test]
async fn text_of_the_largest_size_is_stored_and_one_byte_more_is_refused() {
    let server = Server::start("classic/pairs", &[]).await;
    let mut client = Client::of(&server).await;
    let largest = "ä".repeat(kv::VALUE_BYTES_MAX / 2);
    assert_eq!(client.insert(1, &largest).await.unwrap(), 0);
    assert!(client.consult(1).await.unwrap() == largest);
    let status = client.insert(2, &format!("{largest}x")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "the value is too large: 8388609, and the limit is 8388608");
    let status = client.insert(2, &"x".repeat(12 << 20)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(client.consult(2).await.unwrap(), "");
}

#[tokio::test]
async fn value_of_another_dialect_is_refused_and_not_made_up() {
    let server = Server::start("classic/pairs", &[]).await;
    server.store.put(&key(-4), b"\xff\xfe");
    let status = Client::of(&server).await.consult(-4).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("the value of key -4 is no UTF-8 text"), "{}", status.message());
}

#[tokio::test]
async fn hosts_that_are_no_address_are_refused_where_they_are_called() {
    let (server, central) = (
        Server::start("classic/pairs", &["activate"]).await,
        Server::start("classic/central", &["check"]).await,
    );
    let (mut client, mut directory) = (Client::of(&server).await, Client::of(&central).await);
    for host in ["", "host", "host:0", "::1:80", "http://host:80", &format!("{}:1", "h".repeat(300))] {
        assert_eq!(client.activate(host).await.unwrap_err().code(), Code::InvalidArgument, "{host}");
        assert_eq!(directory.register(host, &[1]).await.unwrap_err().code(), Code::InvalidArgument, "{host}");
    }
    assert_eq!(central.store.len(), 0);
}

#[tokio::test]
async fn directory_that_calls_nobody_takes_any_name_of_a_server() {
    let central = Server::start("classic/central", &[]).await;
    let mut directory = Client::of(&central).await;
    assert_eq!(directory.register("the second server", &[1]).await.unwrap(), 1);
    assert_eq!(directory.map(1).await.unwrap(), "the second server");
    for host in ["", &"h".repeat(300)] {
        assert_eq!(directory.register(host, &[1]).await.unwrap_err().code(), Code::InvalidArgument, "{host}");
    }
}

#[tokio::test]
async fn deadline_of_the_call_shortens_the_requests() {
    let server = Server::start("classic/pairs", &[]).await;
    let mut client = Client::of(&server).await;
    client.0.ready().await.unwrap();
    let mut request = Request::new(Number { number: 1 });
    request.set_timeout(std::time::Duration::from_secs(2));
    let path = PathAndQuery::from_static("/keyvalue.KeyValueService/Consult");
    let codec: ProstCodec<Number, Text> = ProstCodec::default();
    client.0.unary(request, path, codec).await.unwrap();
    client.consult(1).await.unwrap();
    let timeouts: Vec<_> = server.store.seen().iter().map(|request| request.timeout).collect();
    assert!(timeouts[0] < std::time::Duration::from_secs(2), "{timeouts:?}");
    assert_eq!(timeouts[1], kv::Request::TIMEOUT);
}

#[tokio::test]
async fn node_of_no_cluster_yet_is_unavailable() {
    let server = Server::start("classic/pairs", &[]).await;
    server.store.leave(kv::Error::Unavailable("this node has not agreed with others yet".into()));
    let status = Client::of(&server).await.insert(1, "one").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(server.store.seen().is_empty());
}

#[tokio::test]
async fn server_is_reached_by_name_and_by_addresses_of_both_kinds() {
    for (listen, host) in [("127.0.0.1:0", "127.0.0.1"), ("127.0.0.1:0", "localhost"), ("[::1]:0", "[::1]")] {
        let setup = Setup { listen: listen.into(), ..Setup::default() };
        let server = Server::start_with("classic/pairs", &[], setup).await;
        let port = server.address.rsplit_once(':').unwrap().1;
        let client = PairClient::new(&format!("{host}:{port}")).unwrap();
        assert_eq!(client.insert(1, "one".into()).await, Ok(true), "{host}");
    }
}

#[tokio::test]
async fn health_knows_the_services() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let services =
        [("classic/pairs", "keyvalue.KeyValueService"), ("classic/central", "central.CentralStorageService")];
    for (dialect, service) in services {
        let server = Server::start(dialect, &[]).await;
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        let mut health = HealthClient::new(endpoint.connect().await.unwrap());
        let asked = HealthCheckRequest { service: service.into() };
        assert!(health.check(asked).await.is_ok(), "{service}");
    }
}

#[tokio::test]
async fn reflection_lists_what_is_served_and_nothing_else() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let services =
        [("classic/pairs", "keyvalue.KeyValueService"), ("classic/central", "central.CentralStorageService")];
    for (dialect, service) in services {
        let server = Server::start(dialect, &[]).await;
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        let mut client = ServerReflectionClient::new(endpoint.connect().await.unwrap());
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let asked = ServerReflectionRequest { host: String::new(), message_request };
        let mut answers =
            client.server_reflection_info(tokio_stream::once(asked)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("it is {answer:?}") };
        let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        assert_eq!(names.iter().filter(|name| !name.starts_with("grpc.")).collect::<Vec<_>>(), [service]);
    }
}
