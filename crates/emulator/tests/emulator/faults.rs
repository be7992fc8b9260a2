//! Failures on request, recorded requests, stopping.

use std::time::{Duration, Instant};

use blobkeep_emulator::{FaultAction, FaultRule, SeedBlob};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{ACCOUNT, Server};

async fn with_blob() -> Server {
    let server = Server::start().await;
    server.emulator.put_blob(ACCOUNT, "c", "b", SeedBlob::new("0123456789")).unwrap();
    server
}

#[tokio::test]
async fn requests_fail_as_often_as_asked_and_say_when_to_come_back() {
    let server = with_blob().await;
    server.emulator.faults().fail_next_retry_after("GetBlob", 2, 503, 7);
    for _ in 0..2 {
        let reply = server.get("/c/b").send().await.expect_error(503, "ServerBusy");
        assert_eq!(reply.header("retry-after"), Some("7"));
    }
    server.get("/c/b").send().await.expect(200);
    server.emulator.faults().fail_next_with_code("PutBlob", 1, 409, "ContainerBeingDeleted");
    server.put_block_blob("/c/new", "x").send().await.expect_error(409, "ContainerBeingDeleted");
    server.get("/c/new").send().await.expect(404);
}

#[tokio::test]
async fn a_dropped_request_is_not_performed_and_a_lost_answer_is() {
    let server = with_blob().await;
    server.emulator.faults().drop_request("PutBlob", 1);
    server.put_block_blob("/c/dropped", "x").try_send().await.unwrap_err();
    server.get("/c/dropped").send().await.expect(404);
    server.emulator.faults().lose_answer("PutBlob", 1);
    server.put_block_blob("/c/lost", "x").try_send().await.unwrap_err();
    server.get("/c/lost").send().await.expect(200);
    let statuses: Vec<u16> = server
        .emulator
        .requests()
        .into_iter()
        .filter(|request| request.operation == "PutBlob")
        .map(|request| request.status)
        .collect();
    assert_eq!(statuses, [0, 0]);
}

#[tokio::test]
async fn bodies_can_break_shrink_and_change() {
    let server = with_blob().await;
    server.emulator.faults().drop_mid_body("GetBlob", 1);
    server.get("/c/b").try_send().await.unwrap_err();
    server.emulator.faults().truncate_body("GetBlob", 1);
    assert_eq!(server.get("/c/b").send().await.expect(200).text(), "01234");
    server.emulator.faults().corrupt_body("GetBlob", 1);
    assert_eq!(server.get("/c/b").send().await.expect(200).text(), "1123456789");
    assert_eq!(server.get("/c/b").send().await.expect(200).text(), "0123456789");
}

#[tokio::test]
async fn a_rule_can_be_aimed_at_one_blob() {
    let server = with_blob().await;
    let action = FaultAction::Status { status: 500, code: "InternalError".to_owned(), retry_after_seconds: None };
    server.emulator.faults().add(FaultRule::new("*", action).on_target("/c/bad"));
    server.get("/c/b").send().await.expect(200);
    server.get("/c/bad").send().await.expect_error(500, "InternalError");
    server.emulator.faults().clear();
    server.get("/c/bad").send().await.expect(404);
}

#[tokio::test]
async fn a_delayed_request_takes_its_time() {
    let server = with_blob().await;
    server.emulator.faults().delay("GetBlob", 60);
    let started = Instant::now();
    server.get("/c/b").send().await.expect(200);
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn a_held_request_waits_until_it_is_released() {
    let server = with_blob().await;
    let mut hold = server.emulator.faults().hold("GetBlob");
    let waiting = tokio::spawn(server.get("/c/b").send());
    hold.reached(1).await;
    server.emulator.put_blob(ACCOUNT, "c", "b", SeedBlob::new("changed meanwhile")).unwrap();
    assert!(!waiting.is_finished());
    hold.release();
    assert_eq!(waiting.await.unwrap().expect(200).text(), "changed meanwhile");
    server.get("/c/b").send().await.expect(200);
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_that_the_server_is_busy() {
    let server = with_blob().await;
    let mut hold = server.emulator.faults().hold("GetBlob");
    server.emulator.faults().limit_concurrency(Some(1));
    let first = tokio::spawn(server.get("/c/b").send());
    hold.reached(1).await;
    server.head("/c/b").send().await.expect(503);
    hold.release();
    first.await.unwrap().expect(200);
    server.head("/c/b").send().await.expect(200);
}

#[tokio::test]
async fn requests_are_recorded_without_their_signatures() {
    let server = with_blob().await;
    server.put_block_blob("/c/new", "12345").send().await.expect(201);
    server.get("/c/b").send().await.expect(200);
    server.list("").await;
    let requests = server.emulator.requests();
    let operations: Vec<_> = requests.iter().map(|request| request.operation).collect();
    assert_eq!(operations, ["PutBlob", "GetBlob", "ListBlobs"]);
    assert_eq!((requests[0].request_bytes, requests[1].response_bytes), (5, 10));
    assert!(requests.iter().all(|request| request.target.contains("sig=REDACTED")));
    assert_eq!(server.emulator.count("GetBlob"), 1);
    server.emulator.clear_requests();
    assert_eq!((server.emulator.count("GetBlob"), server.emulator.requests().len()), (0, 0));
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_frees_the_port() {
    let server = with_blob().await;
    let address = server.emulator.address();
    let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /devstoreaccount1/c/b HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0u8; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
    let started = Instant::now();
    server.emulator.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2));
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    tokio::net::TcpListener::bind(address).await.unwrap();
}
