//! What a policy must satisfy, and how it is answered.

use super::*;

fn retention(name: &str, store: &str, duration: &str, is_default: bool) -> Value {
    json!({
        "objectType": "AzureRetentionRule", "name": name, "isDefault": is_default,
        "lifecycles": [{
            "deleteAfter": {"objectType": "AbsoluteDeleteOption", "duration": duration},
            "sourceDataStore": {"dataStoreType": store, "objectType": "DataStoreInfoBase"},
            "targetDataStoreCopySettings": []
        }]
    })
}

fn backup(interval: &str, tagging: Value) -> Value {
    json!({
        "objectType": "AzureBackupRule", "name": "BackupDaily",
        "backupParameters": {"objectType": "AzureBackupParams", "backupType": "Discrete"},
        "dataStore": {"dataStoreType": "VaultStore", "objectType": "DataStoreInfoBase"},
        "trigger": {
            "objectType": "ScheduleBasedTriggerContext",
            "schedule": {"repeatingTimeIntervals": [interval], "timeZone": "UTC"},
            "taggingCriteria": tagging
        }
    })
}

fn default_tagging() -> Value {
    json!([{"isDefault": true, "taggingPriority": 99, "tagInfo": {"id": "Default_", "tagName": "Default"}}])
}

fn body(rules: Vec<Value>) -> Value {
    json!({"properties": {"datasourceTypes": [crate::word::BLOB_DATASOURCE], "objectType": "BackupPolicy",
        "policyRules": rules, "name": "ignored"}})
}

const DAILY: &str = "R/2023-06-28T07:30:00+00:00/P1D";

/// The template of the command line client: both tiers, two rules named Default.
fn template() -> Vec<Value> {
    vec![
        retention("Default", "OperationalStore", "P30D", true),
        retention("Default", "VaultStore", "P7D", true),
        backup(DAILY, default_tagging()),
    ]
}

fn complaint(rules: Vec<Value>) -> String {
    Policy::parse(&body(rules)).unwrap_err().message
}

#[test]
fn the_usual_template_is_accepted() {
    let policy = Policy::parse(&body(template())).unwrap();
    assert_eq!(policy.operational_retention().unwrap().to_string(), "P30D");
    assert!(policy.is_vaulted());
    assert_eq!(policy.backup_rule("backupdaily").unwrap().name, "BackupDaily");
}

#[test]
fn what_was_sent_comes_back_in_the_spelling_of_the_specification() {
    let mut sent = body(template());
    sent["properties"]["policyRules"][2]["trigger"]["taggingCriteria"][0]["tagInfo"] = json!({"TAGNAME": "Default"});
    sent["properties"]["policyRules"][1]["lifecycles"][0]["sourceDataStore"]["dataStoreType"] = json!("vaultstore");
    sent["properties"]["datasourceTypes"] = json!(["microsoft.storage/storageaccounts/BLOBSERVICES"]);
    let answer = Policy::parse(&sent).unwrap().render("/id", "policy");
    let rules = &answer["properties"]["policyRules"];
    assert_eq!(rules[1]["lifecycles"][0]["sourceDataStore"]["dataStoreType"], "VaultStore");
    assert_eq!(rules[2]["trigger"]["taggingCriteria"][0]["tagInfo"], json!({"tagName": "Default", "id": "Default_"}));
    assert_eq!(answer["properties"]["datasourceTypes"][0], crate::word::BLOB_DATASOURCE);
    assert_eq!(answer["properties"]["name"], Value::Null, "unknown members are dropped");
    let again = Policy::parse(&answer).unwrap();
    assert_eq!(again.render("/id", "policy"), answer, "an answer can be sent back unchanged");
}

#[test]
fn a_store_without_a_default_rule_is_refused() {
    let rules = vec![retention("Default", "VaultStore", "P4W", false), backup(DAILY, default_tagging())];
    assert!(complaint(rules).contains("VaultStore without a default retention rule"));
    let rules = vec![retention("Default", "OperationalStore", "P30D", false)];
    assert!(complaint(rules).contains("OperationalStore without a default retention rule"));
}

#[test]
fn each_thing_that_can_be_wrong_has_its_own_sentence() {
    let two = |first: &str| vec![retention("Default", "VaultStore", "P7D", true), backup(first, default_tagging())];
    let tag = |tagging| vec![retention("Default", "VaultStore", "P7D", true), backup(DAILY, tagging)];
    let default_with = |name: &str| json!([{"isDefault": true, "taggingPriority": 99, "tagInfo": {"tagName": name}}]);
    let table: Vec<(Vec<Value>, &str)> = vec![
        (vec![], "has no rules"),
        (two("R/2023-06-28T07:30:00+00:00/PT1M"), "shorter than PT5M"),
        (two("R/20230628T073000Z/P1D"), "not a repeating interval"),
        (tag(default_with("Weekly")), "Tag 'Weekly' names no retention rule"),
        (tag(json!([])), "0 default entries"),
        (vec![retention("Default", "VaultStore", "P7D", true)], "no AzureBackupRule"),
        (vec![retention("Default", "OperationalStore", "P361D", true)], "the longest there is 360 days"),
        (vec![retention("Default", "OperationalStore", "PT5M", true)], "the shortest is P1D"),
        (vec![retention("Default", "OperationalStore", "thirty days", true)], "not an ISO 8601 duration"),
        (vec![retention("Default", "ArchiveStore", "P30D", true)], "blobs have OperationalStore and VaultStore"),
        (vec![retention("Default", "Cellar", "P30D", true)], "'Cellar' is not one of OperationalStore"),
        (
            vec![
                retention("Default", "OperationalStore", "P3D", true),
                retention("default", "OperationalStore", "P3D", true),
            ],
            "Two rules of the policy have the name",
        ),
        (
            vec![retention("A", "OperationalStore", "P3D", true), retention("B", "OperationalStore", "P3D", true)],
            "2 default retention rules",
        ),
    ];
    for (rules, expected) in table {
        let message = complaint(rules);
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
}

#[test]
fn ten_years_may_be_written_in_any_unit() {
    for duration in ["P10Y", "P120M", "P521W", "P3650D"] {
        let rules = vec![retention("Default", "VaultStore", duration, true), backup(DAILY, default_tagging())];
        assert!(Policy::parse(&body(rules)).is_ok(), "{duration}");
    }
}

#[test]
fn other_datasources_are_refused_by_name() {
    let mut sent = body(template());
    sent["properties"]["datasourceTypes"] = json!(["Microsoft.Compute/disks"]);
    let invalid = Policy::parse(&sent).unwrap_err();
    assert_eq!(invalid.target, "properties.datasourceTypes");
    assert!(invalid.message.contains("'Microsoft.Compute/disks' cannot be backed up"));
    sent["properties"]["datasourceTypes"] = json!([]);
    assert!(Policy::parse(&sent).unwrap_err().message.contains("exactly one"));
}

#[test]
fn criteria_are_checked() {
    let weekly = |criterion: Value| {
        vec![
            retention("Default", "VaultStore", "P7D", true),
            retention("Weekly", "VaultStore", "P4W", false),
            backup(
                DAILY,
                json!([
                    {"isDefault": true, "taggingPriority": 99, "tagInfo": {"tagName": "Default"}},
                    {"isDefault": false, "taggingPriority": 20, "tagInfo": {"tagName": "Weekly"}, "criteria": [criterion]},
                ]),
            ),
        ]
    };
    let object = "ScheduleBasedBackupCriteria";
    assert!(Policy::parse(&body(weekly(json!({"objectType": object, "absoluteCriteria": ["firstofweek"]})))).is_ok());
    assert!(complaint(weekly(json!({"objectType": object}))).contains("says nothing"));
    assert!(complaint(weekly(json!({"daysOfMonth": [{"date": 31}]}))).contains("from 1 to 28"));
    assert!(complaint(weekly(json!({"daysOfTheWeek": ["Someday"]}))).contains("'Someday' is not one of"));
    assert!(complaint(weekly(json!({"scheduleTimes": ["noon"]}))).contains("'noon'"));
}

#[test]
fn policies_on_demand_only_are_accepted() {
    let mut rule = backup(DAILY, default_tagging());
    rule["trigger"] =
        json!({"objectType": "AdhocBasedTriggerContext", "taggingCriteria": {"tagInfo": {"tagName": "Default"}}});
    let policy = Policy::parse(&body(vec![retention("Default", "VaultStore", "P7D", true), rule])).unwrap();
    assert!(policy.backup_rule("BackupDaily").unwrap().schedule().is_none());
}
