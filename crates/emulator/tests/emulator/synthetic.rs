//! Computed blobs: the same everywhere, any number of them, and as real as others when they are touched.

use blobkeep_emulator::{SeedBlob, SyntheticSpec};

use crate::client::{ACCOUNT, Server, encoded};

fn spec(count: u64) -> SyntheticSpec {
    SyntheticSpec { count, min_bytes: 10, max_bytes: 100_000, ..SyntheticSpec::default() }
}

#[tokio::test]
async fn two_emulators_hold_the_same_bytes_and_another_seed_others() {
    let (one, two, three) = (Server::start().await, Server::start().await, Server::start().await);
    one.emulator.add_synthetic(ACCOUNT, "s", spec(20)).unwrap();
    two.emulator.add_synthetic(ACCOUNT, "s", spec(20)).unwrap();
    three.emulator.add_synthetic(ACCOUNT, "s", SyntheticSpec { seed: 2, ..spec(20) }).unwrap();
    let read = |server: &Server, index: u64| {
        let name = server.emulator.synthetic_name(ACCOUNT, "s", index).unwrap();
        server.get(&format!("/s/{name}"))
    };
    let mut differ = 0;
    for index in 0..20 {
        let (first, second) = (read(&one, index).send().await.expect(200), read(&two, index).send().await.expect(200));
        assert_eq!(first.body, second.body);
        assert_eq!(first.header("etag"), second.header("etag"));
        differ += usize::from(first.body != read(&three, index).send().await.expect(200).body);
    }
    assert_eq!(differ, 20);
}

#[tokio::test]
async fn a_range_is_a_part_of_the_whole() {
    let server = Server::start().await;
    let large = SyntheticSpec { count: 2, min_bytes: 300_000, max_bytes: 300_000, ..SyntheticSpec::default() };
    server.emulator.add_synthetic(ACCOUNT, "s", large).unwrap();
    for index in 0..2 {
        let path = format!("/s/{}", server.emulator.synthetic_name(ACCOUNT, "s", index).unwrap());
        let whole = server.get(&path).send().await.expect(200).body;
        for (from, to) in [(0, 300_000), (65_530, 65_545), (131_072, 200_001), (299_999, 300_000)] {
            let range = format!("bytes={from}-{}", to - 1);
            let part = server.get(&path).with("x-ms-range", &range).send().await.expect(206).body;
            assert!(part == whole[from..to], "{range}");
        }
    }
}

#[tokio::test]
async fn ten_million_blobs_are_there_at_once() {
    let server = Server::start().await;
    server.emulator.add_synthetic(ACCOUNT, "c", spec(10_000_000)).unwrap();
    let first = server.list("&maxresults=2").await;
    let marker = first.elements("NextMarker").remove(0);
    let second = server.list(&format!("&maxresults=2&marker={}", encoded(&marker))).await;
    let names: Vec<String> = [first.elements("Name"), second.elements("Name")].concat();
    let expected: Vec<_> = (0..4).map(|index| server.emulator.synthetic_name(ACCOUNT, "c", index).unwrap()).collect();
    assert_eq!(names, expected);
    let last_folder = server.list("&prefix=d000999%2F&maxresults=5000").await;
    assert_eq!(last_folder.elements("Name").len(), 5_000);
    let folders = server.list("&delimiter=%2F&maxresults=5000").await;
    assert_eq!(folders.elements("BlobPrefix").len(), 1_000);
    let length = &last_folder.elements("Content-Length")[7];
    let name = &last_folder.elements("Name")[7];
    assert_eq!(server.get(&format!("/c/{name}")).send().await.expect(200).body.len().to_string(), *length);
}

#[tokio::test]
async fn one_blob_of_4_gib_can_be_read_in_ranges() {
    let server = Server::start().await;
    let size = 4u64 << 30;
    let huge = SyntheticSpec { count: 1, min_bytes: size, max_bytes: size, ..SyntheticSpec::default() };
    server.emulator.add_synthetic(ACCOUNT, "s", huge).unwrap();
    let path = format!("/s/{}", server.emulator.synthetic_name(ACCOUNT, "s", 0).unwrap());
    assert_eq!(server.head(&path).send().await.expect(200).header("content-length"), Some("4294967296"));
    let range = format!("bytes={}-{}", size - 10, size - 1);
    assert_eq!(server.get(&path).with("x-ms-range", &range).send().await.expect(206).body.len(), 10);
}

#[tokio::test]
async fn computed_blobs_can_be_replaced_changed_tagged_and_deleted() {
    let server = Server::start().await;
    server.emulator.add_synthetic(ACCOUNT, "c", spec(5)).unwrap();
    let name = |index| server.emulator.synthetic_name(ACCOUNT, "c", index).unwrap();
    let path = |index| format!("/c/{}", name(index));
    let before = server.get(&path(3)).send().await.expect(200);
    server.put_block_blob(&path(0), "mine").send().await.expect(201);
    server.delete(&path(1)).send().await.expect(202);
    server.put(&format!("{}?comp=metadata", path(2))).with("x-ms-meta-a", "1").send().await.expect(200);
    assert_eq!(server.emulator.change_synthetic(ACCOUNT, "c", [3, 99], 1).unwrap(), 1);
    server.emulator.put_blob(ACCOUNT, "c", "between", SeedBlob::new("x")).unwrap();

    assert_eq!(server.list("").await.elements("Name"), ["between".to_owned(), name(0), name(2), name(3), name(4)]);
    assert_eq!(server.get(&path(0)).send().await.expect(200).text(), "mine");
    server.get(&path(1)).send().await.expect_error(404, "BlobNotFound");
    assert_eq!(server.head(&path(2)).send().await.expect(200).header("x-ms-meta-a"), Some("1"));
    let after = server.get(&path(3)).send().await.expect(200);
    assert_eq!(before.body.len(), after.body.len());
    assert!(before.body != after.body && before.header("etag") != after.header("etag"));
}
