//! Recovery points of an instance: listed, filtered, and the ranges between them.

use serde_json::json;

use crate::service::{Answer, Service};

#[tokio::test]
async fn points_are_listed_newest_first_and_filtered() {
    let mut service = Service::start().await;
    let id = service.protect().await;
    let mut points = Vec::new();
    for number in 1..=3 {
        points.push(service.add_point(number, "VaultStore").await);
    }
    let operational = service.add_point(9, "OperationalStore").await;
    let names = |answer: &Answer| -> Vec<String> {
        let body = answer.json();
        let values = body["value"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
        values.iter().map(|point| point["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = service.get(&format!("{id}/recoveryPoints?$filter=")).await;
    assert_eq!(names(&all), [points[2].clone(), points[1].clone(), points[0].clone()]);
    let filter =
        "startDate%20eq%20'2025-03-02T00:00:00.0000000Z'%20and%20endDate%20eq%20'2025-03-03T12:00:00.0000000Z'";
    let some = service.get(&format!("{id}/recoveryPoints?$filter={filter}")).await;
    assert_eq!(names(&some), [points[1].clone(), points[0].clone()]);
    let bad = service.get(&format!("{id}/recoveryPoints?$filter=name%20eq%20x")).await;
    assert_eq!((bad.status, bad.code().as_str()), (400, "InvalidFilterInQueryString"));
    let one = service.get(&format!("{id}/recoveryPoints/{}", points[0])).await.json();
    assert_eq!(one["properties"]["recoveryPointTime"], "2025-03-02T00:00:00.0000000Z");
    assert_eq!(one["properties"]["recoveryPointDataStoresDetails"][0]["state"], "COMMITTED");
    assert_eq!(service.get(&format!("{id}/recoveryPoints/none")).await.code(), "ResourceNotFound");
    assert_eq!(service.get(&format!("{id}/recoveryPoints/{operational}")).await.code(), "ResourceNotFound");
    let now = service.running.app().now() / 1_000_000 * 1_000_000;
    service.sql(&format!("UPDATE recovery_points SET created_at = {now} WHERE store = 'OperationalStore'")).await;
    let ranges = service
        .post(&format!("{id}/findRestorableTimeRanges"), json!({"sourceDataStoreType": "OperationalStore"}))
        .await;
    assert_eq!(ranges.json()["name"], "msblobbackup-1", "{ranges:?}");
    assert_eq!(ranges.json()["properties"]["restorableTimeRanges"].as_array().map(Vec::len), Some(1), "{ranges:?}");
}
