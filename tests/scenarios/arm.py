"""The API as a plain client of HTTP sees it: requests that go out exactly as written, answers as they came, ids, bodies.

Nothing is retried, re-cased or re-ordered here: what a story sends is what is on the wire.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Optional, Union

from harness import Transcript, eventually

BACKUP_CONTRIBUTOR = "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1"
BACKUP_READER = "a795c7a0-d4a2-40c1-ae25-d81f01202912"
SEED_VERSION = "2021-01-01"
STORAGE_VERSION = "2023-05-01"
BLOBS = "Microsoft.Storage/storageAccounts/blobServices"
LOCATION = "westus"

Json = Any


@dataclass
class Answer:
    """One answer; headers keep their order and compare without case."""

    request: str
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Json:
        """The body, parsed; members keep their order."""
        return json.loads(self.text)

    @property
    def code(self) -> Optional[str]:
        """The error code, if the body is an error."""
        try:
            return self.json["error"]["code"]
        except (ValueError, KeyError, TypeError):
            return None

    def expect(self, *statuses: int, code: Optional[str] = None) -> "Answer":
        """This answer, if it has one of these statuses and that error code."""
        if self.status not in statuses or (code is not None and self.code != code):
            wanted = f"{'/'.join(map(str, statuses))}{f' {code}' if code else ''}"
            raise AssertionError(f"{self.request}\nexpected {wanted}, got {self.status} {self.text}")
        return self


@dataclass
class Outcome:
    """How an asynchronous operation ended: its last status body, all that came before it, and where its result is."""

    status: Json
    running: list[Answer] = field(default_factory=list)
    last: Optional[Answer] = None
    location: Optional[str] = None

    @property
    def succeeded(self) -> bool:
        """It ended well."""
        return bool(self.status["status"] == "Succeeded")

    @property
    def code(self) -> Optional[str]:
        """The error code of one that did not."""
        return (self.status.get("error") or {}).get("code")

    @property
    def job_id(self) -> str:
        """The ARM id of the job that a backup or restore became."""
        return str((self.status.get("properties") or {})["jobId"])


class Arm:
    """A signed-in client of one service."""

    def __init__(self, env: dict[str, str], transcript: Transcript, client: Optional[tuple[str, str]] = None) -> None:
        self.env = env
        self.subscription = env["AZURE_SUBSCRIPTION_ID"]
        self.endpoint = env["BLOBKEEP_ENDPOINT"].rstrip("/")
        self._transcript = transcript
        self._client = client or (env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"])
        self._tls = ssl.create_default_context(cafile=env["BLOBKEEP_CA_FILE"])
        self._token = ""

    def send(self, method: str, url: str, body: Optional[bytes], headers: dict[str, str]) -> Answer:
        """One request on a connection of its own, its path untouched."""
        scheme, rest = url.split("://", 1)
        host, _, path = rest.partition("/")
        assert scheme == "https", url
        connection = http.client.HTTPSConnection(host, timeout=60, context=self._tls)
        try:
            connection.putrequest(method, "/" + path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body is not None or method in ("PUT", "POST", "PATCH"):
                connection.putheader("Content-Length", str(len(body or b"")))
            connection.endheaders(body)
            raw = connection.getresponse()
            text = raw.read().decode("utf-8")
        finally:
            connection.close()
        shown = body.decode("utf-8", "replace") if body else ""
        answer = Answer(f"{method} {url}\n{shown}", raw.status, raw.headers, text)
        self._transcript.add(f"{method} {url}\n{shown}\n-> {raw.status}\n{raw.headers}{text}")
        return answer

    def token(self) -> str:
        """An access token by client credentials, asked for once."""
        if not self._token:
            form = {
                "grant_type": "client_credentials",
                "client_id": self._client[0],
                "client_secret": self._client[1],
                "scope": f"{self.endpoint}/.default",
            }
            url = f"{self.env['AZURE_AUTHORITY_HOST'].rstrip('/')}/{self.env['AZURE_TENANT_ID']}/oauth2/v2.0/token"
            body = urllib.parse.urlencode(form).encode()
            answer = self.send("POST", url, body, {"Content-Type": "application/x-www-form-urlencoded"})
            self._token = answer.expect(200).json["access_token"]
        return self._token

    def request(
        self,
        method: str,
        path: str,
        body: Union[None, str, dict[str, Json]] = None,
        *,
        version: Optional[str] = SEED_VERSION,
        signed: bool = True,
        headers: Optional[dict[str, str]] = None,
    ) -> Answer:
        """One request. `path` is a path or an absolute URL; `version` is added unless it is None or the query has one.

        A text body goes out byte for byte.
        """
        url = path if path.startswith("https://") else self.endpoint + path
        if version and "api-version=" not in url:
            url += ("&" if "?" in url else "?") + f"api-version={version}"
        sent = dict(headers or {})
        if signed:
            sent.setdefault("Authorization", f"Bearer {self.token()}")
        raw: Optional[bytes] = None
        if body is not None:
            raw = (body if isinstance(body, str) else json.dumps(body)).encode("utf-8")
            sent.setdefault("Content-Type", "application/json")
        return self.send(method, url, raw, sent)

    def get(self, path: str, **options: Any) -> Answer:
        """GET."""
        return self.request("GET", path, **options)

    def put(self, path: str, body: Union[str, dict[str, Json]], **options: Any) -> Answer:
        """PUT."""
        return self.request("PUT", path, body, **options)

    def post(self, path: str, body: Union[None, str, dict[str, Json]] = None, **options: Any) -> Answer:
        """POST."""
        return self.request("POST", path, body, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        """DELETE."""
        return self.request("DELETE", path, **options)

    def values(self, path: str, **options: Any) -> list[Json]:
        """All values of a list, through its next links."""
        found: list[Json] = []
        link: Optional[str] = path
        while link:
            page = self.get(link, **options).expect(200).json
            found += page["value"]
            link = page.get("nextLink")
        return found

    def wait(self, accepted: Answer, *, seconds: float = 120.0) -> Outcome:
        """Follows `Azure-AsyncOperation` to its end."""
        url = accepted.headers["Azure-AsyncOperation"]
        if not url:
            raise AssertionError(f"no Azure-AsyncOperation in the answer to {accepted.request}\n{accepted.headers}")
        running: list[Answer] = []

        def look() -> Optional[Answer]:
            answer = self.get(url).expect(200)
            if answer.json["status"] in ("Succeeded", "Failed", "Canceled"):
                return answer
            running.append(answer)
            return None

        last = eventually(f"the end of {url}", look, seconds=seconds)
        return Outcome(last.json, running, last, accepted.headers["Location"])

    def done(self, accepted: Answer, *, seconds: float = 120.0) -> Outcome:
        """Like `wait`, and the operation must succeed."""
        outcome = self.wait(accepted, seconds=seconds)
        if not outcome.succeeded:
            raise AssertionError(f"{accepted.request}\nended as {json.dumps(outcome.status, indent=1)}")
        return outcome

    # --- the front end ---------------------------------------------------------------------------------------------

    def make_subscription(self, subscription: str) -> None:
        """One more subscription, by the alias API."""
        path = f"/providers/Microsoft.Subscription/aliases/{subscription}"
        self.put(path, {"properties": {"subscriptionId": subscription}}, version="2021-10-01").expect(200, 201)

    def make_group(self, group: str, subscription: Optional[str] = None) -> str:
        """A resource group; its id."""
        path = f"/subscriptions/{subscription or self.subscription}/resourceGroups/{group}"
        self.put(path, {"location": LOCATION}, version="2021-04-01").expect(200, 201)
        return path

    def connect_account(self, account_id: str, connection_string: str) -> None:
        """Says where the blobs of a storage account are."""
        body = {
            "location": LOCATION,
            "kind": "StorageV2",
            "sku": {"name": "Standard_LRS"},
            "properties": {"connection": {"kind": "AzureBlob", "connectionString": connection_string}},
        }
        self.put(account_id, body, version=STORAGE_VERSION).expect(200, 201, 202)

    def assign(self, role: str, principal: str, scope: str) -> None:
        """A role assignment; one that is there already is as good."""
        path = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        body = {
            "properties": {
                "roleDefinitionId": f"/subscriptions/{self.subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}",
                "principalId": principal,
                "principalType": "ServicePrincipal",
            }
        }
        answer = self.put(path, body, version="2022-04-01").expect(200, 201, 409)
        if answer.status == 409:
            answer.expect(409, code="RoleAssignmentExists")

    # --- data protection -------------------------------------------------------------------------------------------

    def make_vault(self, vault_id: str) -> str:
        """A vault with a system-assigned identity; the identity's principal id."""
        body = {
            "location": LOCATION,
            "identity": {"type": "SystemAssigned"},
            "properties": {"storageSettings": [{"datastoreType": "VaultStore", "type": "LocallyRedundant"}]},
        }
        self.done(self.put(vault_id, body).expect(200, 201))
        return str(self.get(vault_id).expect(200).json["identity"]["principalId"])

    def make_policy(self, vault_id: str, name: str, *rules: Json) -> str:
        """A policy of these rules; its id."""
        path = f"{vault_id}/backupPolicies/{name}"
        body = {"properties": {"objectType": "BackupPolicy", "datasourceTypes": [BLOBS], "policyRules": list(rules)}}
        self.put(path, body).expect(200)
        return path

    def make_instance(self, instance_id: str, account_id: str, policy_id: str, containers: Optional[list[str]] = None) -> None:
        """A protected account, protected to the end."""
        self.done(self.put(instance_id, instance_body(account_id, policy_id, containers)).expect(201))
        self.wait_protected(instance_id)

    def wait_protected(self, instance_id: str, *, seconds: float = 60.0) -> Json:
        """The instance, once it is `ProtectionConfigured`."""

        def look() -> Optional[Json]:
            found = self.get(instance_id).expect(200).json
            state = found["properties"]["currentProtectionState"]
            if state in ("ConfiguringProtectionFailed", "ProtectionError"):
                raise RuntimeError(f"protection failed: {json.dumps(found, indent=1)}")
            assert state == "ProtectionConfigured", state
            return found

        return eventually(f"{instance_id} to be protected", look, seconds=seconds)

    def wait_job(self, job_id: str, *, seconds: float = 300.0) -> Json:
        """The job, once it has ended, however."""

        def look() -> Optional[Json]:
            found = self.get(job_id).expect(200).json
            assert found["properties"]["status"] not in ("InProgress", "Started", "Cancelling", "Paused"), found["properties"]["status"]
            return found

        return eventually(f"the end of job {job_id}", look, seconds=seconds, pause=0.2)

    def completed(self, accepted: Answer, *, seconds: float = 300.0) -> Json:
        """The job of an accepted backup or restore, which must complete."""
        job = self.wait_job(self.done(accepted).job_id, seconds=seconds)
        if job["properties"]["status"] != "Completed":
            raise AssertionError(f"{accepted.request}\nits job: {json.dumps(job, indent=1)}")
        return job

    def trigger_backup(self, instance_id: str, rule: str = "BackupDaily") -> Answer:
        """Asks for a backup now."""
        body = {"backupRuleOptions": {"ruleName": rule, "triggerOption": {}}}
        return self.post(f"{instance_id}/backup", body).expect(202)

    def latest_point(self, instance_id: str) -> Json:
        """The newest recovery point."""
        points = self.values(f"{instance_id}/recoveryPoints")
        assert points, f"{instance_id} has no recovery point"
        return points[0]

    def trigger_restore(self, instance_id: str, request: Json) -> Answer:
        """Asks for a restore."""
        return self.post(f"{instance_id}/restore", request).expect(202)


# --- ids and bodies ------------------------------------------------------------------------------------------------


def vault_id(group_id: str, name: str) -> str:
    """The id of a vault."""
    return f"{group_id}/providers/Microsoft.DataProtection/backupVaults/{name}"


def account_id(group_id: str, name: str) -> str:
    """The id of a storage account."""
    return f"{group_id}/providers/Microsoft.Storage/storageAccounts/{name}"


def retention(store: str, days: int) -> Json:
    """The default retention rule of a store."""
    lifecycle = {
        "deleteAfter": {"objectType": "AbsoluteDeleteOption", "duration": f"P{days}D"},
        "sourceDataStore": {"objectType": "DataStoreInfoBase", "dataStoreType": store},
        "targetDataStoreCopySettings": [],
    }
    return {"objectType": "AzureRetentionRule", "name": "Default", "isDefault": True, "lifecycles": [lifecycle]}


def far_daily_schedule() -> str:
    """A daily schedule whose next turn is half a day away: it never joins in while a story is told."""
    start = datetime.now(timezone.utc) - timedelta(hours=12)
    return f"R/{start.strftime('%Y-%m-%dT%H:%M:%S')}+00:00/P1D"


def daily_rule(name: str = "BackupDaily") -> Json:
    """A daily backup into the vault."""
    tagging = {"isDefault": True, "taggingPriority": 99, "tagInfo": {"id": "Default_", "tagName": "Default"}}
    return {
        "objectType": "AzureBackupRule",
        "name": name,
        "backupParameters": {"objectType": "AzureBackupParams", "backupType": "Discrete"},
        "dataStore": {"objectType": "DataStoreInfoBase", "dataStoreType": "VaultStore"},
        "trigger": {
            "objectType": "ScheduleBasedTriggerContext",
            "schedule": {"repeatingTimeIntervals": [far_daily_schedule()], "timeZone": "UTC"},
            "taggingCriteria": [tagging],
        },
    }


OPERATIONAL_RULES = [retention("OperationalStore", 30)]


def vaulted_rules() -> list[Json]:
    """The rules of a policy that keeps daily points in the vault for a week."""
    return [retention("VaultStore", 7), daily_rule()]


def datasource(account: str) -> Json:
    """A storage account as the source of a backup or the target of a restore."""
    return {
        "objectType": "Datasource",
        "resourceID": account,
        "resourceName": account.rsplit("/", 1)[1],
        "resourceType": "Microsoft.Storage/storageAccounts",
        "resourceUri": account,
        "resourceLocation": LOCATION,
        "datasourceType": BLOBS,
    }


def instance_properties(account: str, policy: str, containers: Optional[list[str]] = None) -> Json:
    """What is to be protected by which policy; the whole account without a list of containers."""
    policy_info: Json = {"policyId": policy}
    if containers is not None:
        parameters = [{"objectType": "BlobBackupDatasourceParameters", "containersList": containers}]
        policy_info["policyParameters"] = {"dataStoreParametersList": [], "backupDatasourceParametersList": parameters}
    return {"objectType": "BackupInstance", "dataSourceInfo": datasource(account), "policyInfo": policy_info}


def instance_body(account: str, policy: str, containers: Optional[list[str]] = None) -> Json:
    """The body of a PUT of a backup instance."""
    return {"properties": instance_properties(account, policy, containers)}


def restore_point(point: str, target: str, criteria: Optional[list[Json]] = None) -> Json:
    """A restore of a vaulted point to an account: everything, or what the criteria name."""
    info: Json = {
        "objectType": "ItemLevelRestoreTargetInfo" if criteria else "RestoreTargetInfo",
        "recoveryOption": "FailIfExists",
        "restoreLocation": LOCATION,
        "datasourceInfo": datasource(target),
    }
    if criteria:
        info["restoreCriteria"] = criteria
    return {
        "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
        "recoveryPointId": point,
        "sourceDataStoreType": "VaultStore",
        "restoreTargetInfo": info,
    }


def restore_time(instant: datetime, account: str) -> Json:
    """A restore in place of everything to its state at an instant."""
    return {
        "objectType": "AzureBackupRecoveryTimeBasedRestoreRequest",
        "recoveryPointTime": iso(instant),
        "sourceDataStoreType": "OperationalStore",
        "restoreTargetInfo": {
            "objectType": "RestoreTargetInfo",
            "recoveryOption": "FailIfExists",
            "restoreLocation": LOCATION,
            "datasourceInfo": datasource(account),
        },
    }


def restore_ranges(instant: datetime, account: str, *ranges: tuple[str, str]) -> Json:
    """A restore in place of what lies in some ranges of names."""
    request = restore_time(instant, account)
    info = request["restoreTargetInfo"]
    info["objectType"] = "ItemLevelRestoreTargetInfo"
    info["restoreCriteria"] = [
        {"objectType": "RangeBasedItemLevelRestoreCriteria", "minMatchingValue": start, "maxMatchingValue": end} for start, end in ranges
    ]
    return request


def iso(instant: datetime) -> str:
    """UTC with seven fraction digits, as the API writes it."""
    return instant.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"


def instant(text: str) -> datetime:
    """Reads what the API writes: up to seven fraction digits."""
    body = text.rstrip("Z")
    whole, _, fraction = body.partition(".")
    parsed = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return parsed + timedelta(microseconds=int((fraction + "000000")[:6]))


def wait_restorable(arm: Arm, instance_id: str, at: datetime, *, seconds: float = 60.0) -> None:
    """Waits until the operational tier says that this instant can be restored."""
    query = {
        "sourceDataStoreType": "OperationalStore",
        "startTime": iso(at - timedelta(hours=1)),
        "endTime": iso(at + timedelta(hours=1)),
    }

    def look() -> bool:
        found = arm.post(f"{instance_id}/findRestorableTimeRanges", query).expect(200).json
        ranges = found["properties"]["restorableTimeRanges"]
        assert any(instant(r["startTime"]) <= at <= instant(r["endTime"]) for r in ranges), (iso(at), ranges)
        return True

    eventually(f"{iso(at)} to be restorable", look, seconds=seconds, pause=0.3)


def now() -> datetime:
    """The client's clock."""
    return datetime.fromtimestamp(time.time(), timezone.utc)
