//! Everything that can be answered instead of success: one table of codes, and the two shapes in which they are answered.
//!
//! A code that is not in the table cannot be answered. Messages are templates: `{name}` is filled in by [`ApiError::of`]. This file must
//! never see an inner error type: the service turns those into codes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How an error is put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The resource manager's own: `{"error":{"code","message"}}`.
    Bare,
    /// The backup service's: the same plus `additionalInfo` of type `UserFacingError`, which repeats code and message and says what to do.
    UserFacing,
}

/// One row of the table.
#[derive(Debug)]
pub struct ErrorRule {
    /// The code as it is answered.
    pub name: &'static str,
    /// HTTP status of an immediate answer. In an operation's status the HTTP status is 200.
    pub status: u16,
    /// The shape on the wire.
    pub shape: Shape,
    /// The same request may succeed later without any change.
    pub is_retryable: bool,
    /// What happened, with `{placeholders}`.
    pub message: &'static str,
    /// What to do next, with `{placeholders}`; may be empty for bare ones.
    pub actions: &'static [&'static str],
}

/// Makes the enum and its table from one list, so that neither can lack what the other has.
macro_rules! error_table {
    ($($(#[$doc:meta])* $code:ident $status:literal $shape:ident $retry:literal $message:literal [$($action:literal),* $(,)?];)*) => {
        /// Every code that Blobkeep answers. The variant's name is the code on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $code,)* }

        impl ErrorCode {
            /// All codes, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$code,)*];

            /// The row of this code.
            pub fn rule(self) -> &'static ErrorRule {
                match self {
                    $(Self::$code => &ErrorRule {
                        name: stringify!($code), status: $status, shape: Shape::$shape, is_retryable: $retry,
                        message: $message, actions: &[$($action),*],
                    },)*
                }
            }
        }
    };
}

// code  status  shape  retryable  message  [recommended actions]
// Sources: facts of the public documentation and of recorded traffic; where these give no HTTP status, 400.
error_table! {
    // ---- The resource manager's front door.
    /// The path cannot be read: encoded slashes, relative or empty segments, broken encoding.
    InvalidRequestUri 400 Bare false "The request URI is invalid: {reason}." [];
    /// No `api-version` in the query.
    MissingApiVersionParameter 400 Bare false
        "The api-version query parameter (?api-version=) is required for all requests." [];
    /// An `api-version` that is not a date, or one before the first.
    InvalidApiVersionParameter 400 Bare false
        "The api-version '{version}' is invalid. The supported versions are '{supported}'." [];
    /// The body is not JSON, or not of the form that the operation takes.
    InvalidRequestContent 400 Bare false
        "The request content was invalid and could not be deserialized: '{reason}'." [];
    /// The body is larger than the service reads.
    RequestEntityTooLarge 413 Bare false "The request content is larger than the limit of {limit} bytes." [];
    /// No credentials, or credentials that are not ours, have expired or are for somebody else.
    AuthenticationFailed 401 Bare false "Authentication failed. {reason}" [];
    /// The caller may not do this, or there is no such thing: which of the two is not told.
    AuthorizationFailed 403 Bare false
        "The client '{client}' with object id '{object}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials." [];
    /// The caller may not do what the request implies on another resource that it names.
    LinkedAuthorizationFailed 403 Bare false
        "The client with object id '{object}' has permission to perform action '{action}' on scope '{scope}'; however, it does not have permission to perform action '{linked_action}' on the linked scope(s) '{linked_scope}' or the linked scope(s) are invalid." [];
    /// The tenant in the path is not this service's.
    InvalidTenant 400 Bare false "The tenant '{tenant}' is not served here. Use the tenant '{own}'." [];
    /// No operation has this path.
    NotFound 404 Bare false "No HTTP resource was found that matches the request URI '{path}'." [];
    /// The provider is not one of ours.
    InvalidResourceNamespace 404 Bare false "The resource namespace '{namespace}' is invalid." [];
    /// The provider has no such type.
    InvalidResourceType 404 Bare false
        "The resource type '{kind}' could not be found in the namespace '{namespace}' for api version '{version}'." [];
    /// The path is known, the method is not.
    MethodNotAllowed 405 Bare false "The requested resource does not support http method '{method}'." [];
    /// No such subscription.
    SubscriptionNotFound 404 Bare false "The subscription '{subscription}' could not be found." [];
    /// No such resource group.
    ResourceGroupNotFound 404 Bare false "Resource group '{group}' could not be found." [];
    /// No such resource.
    ResourceNotFound 404 Bare false
        "The Resource '{resource}' under resource group '{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix" [];
    /// The resource in which another one should be made is not there.
    ParentResourceNotFound 404 Bare false
        "Failed to perform '{action}' on resource(s) of type '{kind}', because the parent resource '{parent}' could not be found." [];
    /// A name that cannot be used.
    InvalidResourceName 400 Bare false "The name '{name}' of a {kind} is invalid: {rule}." [];
    /// A resource group's name that cannot be used.
    InvalidResourceGroupName 400 Bare false "The provided resource group name '{name}' is invalid: {rule}." [];
    /// The body names no location.
    LocationRequired 400 Bare false "The location property is required for this definition." [];
    /// A resource cannot move by a PUT with another location.
    InvalidResourceLocation 409 Bare false
        "The resource '{name}' already exists in location '{location}'. A resource with the same name cannot be created in location '{wanted}'. Please select a new resource name." [];
    /// A resource group cannot move by a PUT with another location.
    InvalidResourceGroupLocation 409 Bare false
        "Invalid resource group location '{wanted}'. The Resource group already exists in location '{location}'." [];
    /// The group still holds what must be removed on purpose.
    ResourceGroupNotEmpty 409 Bare false
        "The resource group '{group}' cannot be deleted because it still contains resources: {resources}. Delete them first." [];
    /// Something about the request contradicts the present state.
    Conflict 409 Bare false "{reason}" [];
    /// The link of an export is not one that the service has signed, or its time is over.
    ExportLinkInvalid 403 Bare false "The link is invalid or has expired: ask for the result of the export again." [];
    /// A precondition (ETag) is not met.
    PreconditionFailed 412 Bare false "The condition '{condition}' is not met: the resource is not as the request expects it." [];
    /// A query filter cannot be understood.
    InvalidFilterInQueryString 400 Bare false "Invalid $filter '{filter}' specified in the query string: {reason}." [];
    /// A member of the body has a value that cannot be used.
    InvalidParameter 400 Bare false "The value of '{parameter}' is invalid: {reason}." [];
    /// What is asked for exists in the API but is not offered here.
    NotSupported 400 Bare false "{what} is not supported: {reason}." [];
    /// The subscription of an alias exists already.
    SubscriptionAlreadyExists 409 Bare false "The subscription '{subscription}' already belongs to the alias '{alias}'." [];
    /// The service failed; details are in its log under the correlation id.
    InternalServerError 500 Bare true
        "The service failed to answer this request. Its log holds the reason under correlation id '{correlation}'." [];
    /// The service is starting, stopping or overloaded.
    ServiceUnavailable 503 Bare true "The service cannot answer now: {reason}. Try again later." [];

    // ---- Roles and principals.
    /// The same principal has the same role at the same scope already.
    RoleAssignmentExists 409 Bare false
        "The role assignment already exists. The ID of the existing role assignment is {id}." [];
    /// An assignment's id cannot be given to another assignment.
    RoleAssignmentUpdateNotPermitted 400 Bare false
        "Tenant ID, application ID, principal ID, and scope are not allowed to be updated." [];
    /// The name of an assignment must be a GUID.
    InvalidRoleAssignmentId 400 Bare false "The role assignment ID '{id}' is not valid. The role assignment ID must be a GUID." [];
    /// No such assignment.
    RoleAssignmentNotFound 404 Bare false "The role assignment '{id}' is not found." [];
    /// No such role.
    RoleDefinitionDoesNotExist 404 Bare false "The specified role definition with ID '{id}' does not exist." [];
    /// No such principal.
    PrincipalNotFound 400 Bare false
        "Principal {principal} does not exist in the directory {tenant}. Check that you have the correct principal ID." [];
    /// The last right over everything would be lost.
    LastOwnerCannotBeRemoved 409 Bare false
        "The assignment '{id}' is the last one of the role Owner at '/': without it nobody could grant rights any more." [];

    /// A role may be given only where its definition says so.
    RoleAssignmentScopeNotAssignableToRoleDefinition 400 Bare false
        "The scope '{scope}' is not one of the assignable scopes of the role definition '{id}', and does not lie in one." [];
    /// The name of a role definition must be a GUID.
    InvalidRoleDefinitionId 400 Bare false "The role definition ID '{id}' is not valid. The role definition ID must be a GUID." [];
    /// A built-in role is nobody's to change.
    RoleDefinitionExists 409 Bare false "The role definition '{id}' is a built-in role, which cannot be changed or removed." [];
    /// Names of roles are unique in the tenant.
    RoleDefinitionWithSameNameExists 409 Bare false
        "A custom role with the same name already exists in this directory. Use a different name." [];
    /// A role needs a name.
    RoleDefinitionNameNullOrEmpty 400 Bare false "The name of the role definition ('properties.roleName') cannot be null or empty." [];
    /// Only custom roles can be made.
    InvalidRoleDefinitionType 400 Bare false "The role definition type '{kind}' is not valid. Only 'CustomRole' can be created." [];
    /// A role must say where it may be given.
    MissingAssignableScopes 400 Bare false "The role definition must have at least one scope in 'properties.assignableScopes'." [];
    /// An id in the body cannot be used.
    LinkedInvalidPropertyId 400 Bare false
        "Property id '{id}' at path '{path}' is invalid. Expect fully qualified resource Id that starts with '/subscriptions/'." [];
    /// A pattern of actions that can match nothing.
    InvalidActionOrNotAction 400 Bare false "'{action}' does not match any of the actions supported by the providers." [];
    /// Somebody has the role (there).
    RoleDefinitionHasAssignments 400 Bare false
        "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments)." [];
    /// A management lock stands against it.
    ScopeLocked 409 Bare false
        "The scope '{scope}' cannot perform {operation} operation because following scope(s) are locked: '{locked}'. Please remove the lock and try again." [];

    // ---- Storage accounts.
    /// The account's name is not legal.
    AccountNameInvalid 400 Bare false
        "{name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only." [];
    /// The connection cannot be used; the reason says which rule it breaks.
    InvalidConnection 400 Bare false "The connection of storage account '{account}' is invalid: {reason}." [];
    /// The connection's kind or credential exists in the plan but not in this release.
    ConnectionNotSupported 400 Bare false "The connection of storage account '{account}' is not supported yet: {reason}." [];
    /// The account has no connection, so its blobs cannot be reached.
    StorageAccountNotConnected 409 Bare false
        "The storage account '{account}' has no connection: it is not known where its blobs are. PUT the account with 'properties.connection', or use 'blobkeep storage-account add'." [];
    /// The account's endpoint or folder did not answer as it should.
    StorageAccountUnreachable 502 Bare true "The blobs of storage account '{account}' cannot be listed: {reason}." [];
    /// Account keys are sealed and never leave the service.
    ListKeysNotOffered 403 Bare false
        "The keys of storage account '{account}' are sealed in the service and are never returned." [];
    /// Settings of a blob service have values that cannot be, or do not go together.
    InvalidValuesForRequestParameters 400 Bare false "Values for {parameter} is invalid: {value}. {rule}" [];
    /// A protected account cannot be removed.
    StorageAccountProtected 409 Bare false
        "The storage account '{account}' cannot be deleted: it is protected by the backup instance '{instance}'. Stop its protection first." [];

    // ---- Backup: found at once, or at the end of an operation.
    /// The account is protected already (seed).
    UserErrorDppDatasourceAlreadyProtected 400 UserFacing false
        "Datasource is already protected under the Backup vault {vault}."
        ["Delete the backup instance {instance} from the Backup vault {vault} to re-protect the datasource in any other vault."];
    /// Another instance of the same datasource exists.
    UserErrorDppDatasourceAlreadyHasBackupInstance 400 UserFacing false
        "The datasource {datasource} already has the backup instance {instance}."
        ["Use the backup instance {instance}, or delete it first."];
    /// The vault's identity lacks a role (seed).
    UserErrorMissingRequiredPermissions 400 UserFacing false
        "Appropriate permissions to perform the operation is missing."
        ["Grant appropriate permissions to perform this operation as mentioned at https://aka.ms/UserErrorMissingRequiredPermissions and retry the operation."];
    /// The thing that is named is not there.
    UserErrorGenericResourceNotFound 404 UserFacing false
        "The resource {resource} was not found."
        ["Check the name and retry the operation."];
    /// A member of the request has a value that cannot be used.
    UserErrorInvalidParameterInRequest 400 UserFacing false
        "The parameter '{parameter}' of the request is invalid: {reason}."
        ["Correct '{parameter}' and retry the operation."];
    /// An id in the request cannot be used.
    UserErrorInvalidResourceUriInRequest 400 UserFacing false
        "The resource id '{id}' in '{parameter}' is invalid: {reason}."
        ["Correct '{parameter}' and retry the operation."];
    /// The datasource is not a storage account that can be protected.
    UserErrorUnsupportedStorageAccountType 400 UserFacing false
        "The datasource {datasource} of type '{kind}' cannot be protected."
        ["Use a storage account with the datasource type Microsoft.Storage/storageAccounts/blobServices."];
    /// Account and vault must lie in the same region.
    UserErrorDatasourceAndBackupVaultLocationMismatch 400 UserFacing false
        "The datasource is in '{datasource_location}' but the Backup vault is in '{vault_location}'."
        ["Use a Backup vault in '{datasource_location}'."];
    /// Vaulted backup of no container.
    UserErrorNoContainersSelectedForOperation 400 UserFacing false
        "No containers are selected for the operation."
        ["Name at least one container, or use automatic protection of all containers, and retry the operation."];
    /// Containers that are listed are not there.
    UserErrorIncorrectContainersSelectedForOperation 400 UserFacing false
        "These containers do not exist in the storage account: {containers}."
        ["Remove them from the list of containers, or create them, and retry the operation."];
    /// Soft delete cannot be weakened any more.
    UserErrorDisableSoftDeleteNotAllowed 400 UserFacing false
        "Soft delete of the Backup vault {vault} is AlwaysOn and cannot be changed."
        ["Keep the state AlwaysOn."];
    /// Immutability cannot be weakened any more.
    UserErrorUnsupportedVaultImmutabilityStateChange 400 UserFacing false
        "The immutability state of the Backup vault {vault} cannot change from {from} to {to}."
        ["Keep the state {from}."];
    /// Cross-region restore cannot be switched off.
    UserErrorCrossRegionRestoreStateChangeNotAllowed 400 UserFacing false
        "Cross-region restore of the Backup vault {vault} cannot be switched off."
        ["Keep the state Enabled."];
    /// Encryption under a key of the owner's cannot be taken back.
    UserErrorEncryptionSettingsChangeNotAllowed 400 UserFacing false
        "The encryption settings of the Backup vault {vault} cannot change like this: {reason}."
        ["Leave these settings as they are and retry the operation."];
    /// The key that is to guard a vault, or does, is not known here.
    UserErrorKeyVaultKeyWasNotFound 400 UserFacing false
        "The key '{key}' was not found: {reason}."
        ["Make the key known in the service's configuration ([[encryption_key]]) and retry the operation."];
    /// The vault still holds something.
    UserErrorVaultNotEmpty 409 UserFacing false
        "The Backup vault {vault} cannot be deleted because it still holds {content}."
        ["Delete {content} first and retry the operation."];
    /// The policy is in use.
    UserErrorPolicyInUse 409 UserFacing false
        "The backup policy {policy} cannot be deleted because it is used by {instances}."
        ["Give these backup instances another policy, or delete them, and retry the operation."];
    /// The instance is not in a state that allows this.
    UserErrorOperationNotAllowedInState 409 UserFacing false
        "The backup instance {instance} is in the state {state}, which does not allow '{operation}'."
        ["Wait for a running operation to end, or bring the instance into a state that allows it, and retry the operation."];
    /// Stop and suspend make no sense without a schedule.
    UserErrorStopProtectionNotSupportedForBlobOperationalBackup 400 UserFacing false
        "Protection of the operational tier alone cannot be stopped while its data is kept."
        ["Delete the backup instance instead."];
    /// Backup data is protected against deletion.
    UserErrorImmutableVaultOperationNotAllowed 400 UserFacing false
        "The Backup vault {vault} is immutable: {operation} is not allowed."
        ["Wait until the recovery points have expired."];
    /// More backups than are allowed.
    UserErrorBackupRequestThrottled 429 UserFacing true
        "Too many backups of {instance} were requested."
        ["Wait for the running backups to end and retry the operation."];
    /// The range of a question about restorable times makes no sense.
    UserErrorInvalidRestorableTimeRange 400 UserFacing false
        "The time range from {start} to {end} is invalid."
        ["Give an end time that is later than the start time."];
    /// The input of a question about restorable times makes no sense.
    DppPluginInvalidInputParameters 400 UserFacing false
        "The input is invalid: {reason}."
        ["Correct the input and retry the operation."];
    /// No such recovery point.
    UserErrorRestorePointNotFound 400 UserFacing false
        "The recovery point {point} of {instance} was not found."
        ["List the recovery points and choose one that exists."];
    /// No such recovery point in this vault.
    UserErrorRestorePointNotFoundInBackupVault 400 UserFacing false
        "The recovery point {point} was not found in the Backup vault {vault}."
        ["List the recovery points and choose one that exists."];
    /// The time lies outside what can be restored.
    UserErrorInvalidRecoveryPointInTime 400 UserFacing false
        "The time {time} cannot be restored: {reason}."
        ["Choose a time within the restorable time ranges."];
    /// A range of names makes no sense.
    UserErrorInvalidRestorePrefixRange 400 UserFacing false
        "The range from '{from}' to '{to}' is invalid: {reason}."
        ["Give ranges whose end is greater than their start."];
    /// The restore would have to touch containers that exist.
    UserErrorTargetContainersExistOnAccount 400 UserFacing false
        "These containers exist on the target storage account already: {containers}."
        ["Choose another target, rename the containers in the restore request, or delete them on the target, and retry the operation."];
    /// Vaulted restore to where the data came from.
    UserErrorOriginalLocationRestoreNotSupported 400 UserFacing false
        "Restore of vaulted backups to the original storage account {account} is not supported."
        ["Choose another storage account as target."];
    /// Too many criteria.
    UserErrorTooManyRestoreCriteriaGivenForBlobRestore 400 UserFacing false
        "{count} restore criteria were given; at most {limit} are allowed."
        ["Split the restore into several requests."];
    /// Too many prefixes.
    UserErrorTooManyPrefixesGivenForBlobRestore 400 UserFacing false
        "{count} prefixes were given; at most {limit} are allowed."
        ["Split the restore into several requests."];
    /// A container of the point that is asked for is not in it.
    UserErrorContainerNotFoundForPointInTimeRestore 400 UserFacing false
        "These containers are not part of what can be restored: {containers}."
        ["Choose containers that were backed up."];
    /// Another in-place restore runs.
    UserErrorPitrRestoreInProgress 409 UserFacing true
        "A restore of the storage account {account} is running already."
        ["Wait until it has ended and retry the operation."];
    /// A blob cannot be read from its tier.
    UserErrorArchivedRecoveryPointsRequestedForRestore 400 UserFacing false
        "The recovery point {point} holds archived data that must be brought back first."
        ["Rehydrate the recovery point and retry the operation."];
    /// Immutability on the target stands in the way.
    UserErrorContainerHasImmutabilityPolicyDuringRestore 400 UserFacing false
        "These containers have an immutability policy, so that nothing in them can be replaced: {containers}."
        ["Choose another target or other containers."];
    /// The storage account is not there.
    UserErrorAzureResourceNotFoundByPlugin 400 UserFacing false
        "The storage account {account} was not found."
        ["Check that the storage account exists and retry the operation."];
    /// The storage account is not connected to any place.
    UserErrorStorageAccountNotConnected 400 UserFacing false
        "The storage account {account} has no connection: it is not known where its blobs are."
        ["PUT the storage account with 'properties.connection', or use 'blobkeep storage-account add', and retry the operation."];
    /// The account's endpoint refuses, is unreachable or answers nonsense.
    UserErrorStorageAccountUnreachable 400 UserFacing true
        "The storage account {account} cannot be reached: {reason}."
        ["Check the address and the credential that the storage account was connected with, and retry the operation."];
    /// A read-only lock stands against writing to the account.
    UserErrorStorageAccountInLockedState 400 UserFacing false
        "The storage account {account} cannot be written to, because following scope(s) are locked: {locked}."
        ["Remove the lock and retry the operation."];
    /// The user asked to stop.
    UserErrorOperationCancelled 400 UserFacing false
        "The operation was cancelled by the user."
        ["Start it again if it is still wanted."];
    /// The rule that an on-demand backup names is not in the policy.
    UserErrorBackupRuleNotFound 400 UserFacing false
        "The backup rule '{rule}' is not part of the policy {policy}."
        ["Use one of these rules: {rules}."];
    /// The tag that an on-demand backup names is not in the policy.
    UserErrorRetentionTagNotFound 400 UserFacing false
        "The retention tag '{tag}' is not part of the policy {policy}."
        ["Use one of these tags: {tags}."];
    /// Blobs have no archive tier of recovery points to bring anything back from.
    UserErrorRehydrationNotSupportedForDatasource 400 UserFacing false
        "Rehydration is not supported for the datasource type {kind}: its recovery points have no archive tier."
        ["Restore from VaultStore without rehydration."];
    /// The vault's setting forbids to look at its secondary region.
    UserErrorCrossRegionRestoreNotEnabled 400 UserFacing false
        "Cross-region restore of the Backup vault {vault} is not enabled."
        ["Enable cross-region restore of the Backup vault and retry the operation."];
    /// Blobs are restored from where their vault is.
    UserErrorCrossRegionRestoreNotSupportedForDatasource 400 UserFacing false
        "Cross-region restore is not supported for the datasource type {kind}."
        ["Restore from the primary region."];
    /// A fault of the service.
    CloudInternalError 500 UserFacing true
        "The service failed to perform the operation."
        ["Retry the operation. If it fails again, look into the service's log for the activity id."];
}

/// One entry of `details`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A code, often the outer one.
    pub code: String,
    /// What happened.
    pub message: String,
    /// The member or resource that it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// An error as it is answered: a code with its text filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.rule().name)]
pub struct ApiError {
    /// The code; decides status, shape and whether a retry makes sense.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub actions: Vec<String>,
    /// The member or resource that it happened to.
    pub target: Option<String>,
    /// Further findings of the same request.
    pub details: Vec<ErrorDetail>,
    /// The technical reason; becomes `innerError.additionalInfo.DetailedNonLocalisedMessage`.
    pub detailed_message: Option<String>,
    /// Correlation id of the request that this belongs to. The front door fills it in where it is missing.
    pub activity_id: Option<String>,
}

impl ApiError {
    /// The error of `code` with the placeholders of its templates filled in from `values`.
    pub fn of(code: ErrorCode, values: &[(&str, &str)]) -> Self {
        let rule = code.rule();
        Self {
            code,
            message: fill(rule.message, values),
            actions: rule.actions.iter().map(|action| fill(action, values)).collect(),
            target: None,
            details: Vec::new(),
            detailed_message: None,
            activity_id: None,
        }
    }

    /// Names the member or resource that it happened to.
    #[must_use]
    pub fn with_target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Adds a further finding.
    #[must_use]
    pub fn with_detail(mut self, code: impl Into<String>, message: impl Into<String>, target: Option<String>) -> Self {
        self.details.push(ErrorDetail { code: code.into(), message: message.into(), target });
        self
    }

    /// Adds the technical reason.
    #[must_use]
    pub fn with_detailed_message(mut self, message: impl Into<String>) -> Self {
        self.detailed_message = Some(message.into());
        self
    }

    /// Sets the correlation id if none is set yet.
    #[must_use]
    pub fn with_activity(mut self, activity_id: &str) -> Self {
        self.activity_id.get_or_insert_with(|| activity_id.to_owned());
        self
    }

    /// HTTP status of an immediate answer.
    pub fn status(&self) -> u16 {
        self.code.rule().status
    }

    /// The code as it is answered.
    pub fn code_name(&self) -> &'static str {
        self.code.rule().name
    }

    /// The body of an immediate answer: `{"error":{…}}`, members in the order of the seed's 400.
    pub fn answer_body(&self) -> Value {
        let mut error = Map::new();
        if self.code.rule().shape == Shape::UserFacing {
            error.insert("additionalInfo".into(), json!([{ "type": "UserFacingError", "info": self.info() }]));
            error.insert("code".into(), json!(self.code_name()));
            error.insert("message".into(), json!(self.message));
            error.insert("target".into(), json!(self.target));
        } else {
            error.insert("code".into(), json!(self.code_name()));
            error.insert("message".into(), json!(self.message));
            if let Some(target) = &self.target {
                error.insert("target".into(), json!(target));
            }
        }
        if !self.details.is_empty() {
            error.insert("details".into(), json!(self.details));
        }
        json!({ "error": error })
    }

    /// The `error` member of a failed operation's status, members in the order of the seed's.
    pub fn status_error(&self) -> Value {
        if self.code.rule().shape == Shape::Bare {
            return json!({ "code": self.code_name(), "message": self.message });
        }
        let mut info = self.info();
        if self.details.is_empty()
            && let Some(info) = info.as_object_mut()
        {
            info.shift_remove("details");
        }
        json!({
            "additionalInfo": [{ "type": "UserFacingError", "info": info }],
            "code": self.code_name(),
            "message": self.message,
        })
    }

    /// The `info` object: what `additionalInfo` holds here, and what a job's `errorDetails` lists.
    pub fn info(&self) -> Value {
        let rule = self.code.rule();
        let inner = self
            .detailed_message
            .as_ref()
            .map(|message| json!({ "code": rule.name, "additionalInfo": { "DetailedNonLocalisedMessage": message } }));
        json!({
            "message": self.message,
            "recommendedAction": self.actions,
            "details": if self.details.is_empty() { Value::Null } else { json!(self.details) },
            "code": rule.name,
            "target": self.target.as_deref().unwrap_or(""),
            "innerError": inner,
            "isRetryable": rule.is_retryable,
            // Recorded answers say false even for plain user errors; clients go by the code.
            "isUserError": false,
            "properties": { "ActivityId": self.activity_id.as_deref().unwrap_or("") },
        })
    }
}

impl From<crate::id::PathError> for ApiError {
    fn from(error: crate::id::PathError) -> Self {
        Self::of(ErrorCode::InvalidRequestUri, &[("reason", &error.to_string())])
    }
}

/// Fills `{name}` from `values`; a placeholder without a value is left out.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            text.push('{');
            rest = after;
            continue;
        };
        match values.iter().find(|(key, _)| *key == name) {
            Some((_, value)) => text.push_str(value),
            None => debug_assert!(false, "no value for '{{{name}}}' in '{template}'"),
        }
        rest = tail;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ApiError, ErrorCode, Shape, fill};

    const VAULT: &str = "/subscriptions/xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxxx/resourceGroups/TestBkpVaultRG/providers/Microsoft.DataProtection/backupVaults/testBkpVault";

    #[test]
    fn an_immediate_refusal_has_the_seeds_body_to_the_byte() {
        let error = ApiError::of(
            ErrorCode::UserErrorDppDatasourceAlreadyProtected,
            &[("vault", VAULT), ("instance", "msblobbackuptemp")],
        )
        .with_activity("f36eb67a-8932-42a8-8aba-c5ee2443aa2e");
        assert_eq!(error.status(), 400);
        let message = format!("Datasource is already protected under the Backup vault {VAULT}.");
        let expected = json!({
            "error": {
                "additionalInfo": [{
                    "type": "UserFacingError",
                    "info": {
                        "message": message,
                        "recommendedAction": [format!(
                            "Delete the backup instance msblobbackuptemp from the Backup vault {VAULT} to re-protect the datasource in any other vault."
                        )],
                        "details": null,
                        "code": "UserErrorDppDatasourceAlreadyProtected",
                        "target": "",
                        "innerError": null,
                        "isRetryable": false,
                        "isUserError": false,
                        "properties": { "ActivityId": "f36eb67a-8932-42a8-8aba-c5ee2443aa2e" },
                    },
                }],
                "code": "UserErrorDppDatasourceAlreadyProtected",
                "message": message,
                "target": null,
            },
        });
        assert_eq!(error.answer_body().to_string(), expected.to_string());
    }

    #[test]
    fn a_failed_operation_has_the_seeds_error_to_the_byte() {
        let error = ApiError::of(ErrorCode::UserErrorMissingRequiredPermissions, &[])
            .with_detailed_message("Validate for Protection failed.")
            .with_activity("3e7cacb3-65cd-4b3c-8145-71fe90d57327");
        let expected = json!({
            "additionalInfo": [{
                "type": "UserFacingError",
                "info": {
                    "message": "Appropriate permissions to perform the operation is missing.",
                    "recommendedAction": [
                        "Grant appropriate permissions to perform this operation as mentioned at https://aka.ms/UserErrorMissingRequiredPermissions and retry the operation."
                    ],
                    "code": "UserErrorMissingRequiredPermissions",
                    "target": "",
                    "innerError": {
                        "code": "UserErrorMissingRequiredPermissions",
                        "additionalInfo": { "DetailedNonLocalisedMessage": "Validate for Protection failed." },
                    },
                    "isRetryable": false,
                    "isUserError": false,
                    "properties": { "ActivityId": "3e7cacb3-65cd-4b3c-8145-71fe90d57327" },
                },
            }],
            "code": "UserErrorMissingRequiredPermissions",
            "message": "Appropriate permissions to perform the operation is missing.",
        });
        assert_eq!(error.status_error().to_string(), expected.to_string());
    }

    #[test]
    fn front_end_errors_are_bare() {
        let error = ApiError::of(ErrorCode::ResourceGroupNotFound, &[("group", "rg")]);
        let expected =
            r#"{"error":{"code":"ResourceGroupNotFound","message":"Resource group 'rg' could not be found."}}"#;
        assert_eq!(error.answer_body().to_string(), expected);
    }

    #[test]
    fn details_are_listed() {
        let error = ApiError::of(ErrorCode::InvalidParameter, &[("parameter", "p"), ("reason", "r")]).with_detail(
            "X",
            "y",
            Some("z".into()),
        );
        assert_eq!(error.answer_body()["error"]["details"], json!([{ "code": "X", "message": "y", "target": "z" }]));
    }

    #[test]
    fn the_first_activity_id_stays() {
        let error = ApiError::of(ErrorCode::CloudInternalError, &[]).with_activity("a").with_activity("b");
        assert_eq!(error.activity_id.as_deref(), Some("a"));
    }

    #[test]
    fn every_row_of_the_table_is_sound() {
        for code in ErrorCode::ALL {
            let rule = code.rule();
            assert!((400..=599).contains(&rule.status), "{}", rule.name);
            assert!(!rule.message.is_empty(), "{}", rule.name);
            for template in std::iter::once(&rule.message).chain(rule.actions) {
                assert_eq!(template.matches('{').count(), template.matches('}').count(), "{}: {template}", rule.name);
            }
            if rule.shape == Shape::UserFacing {
                assert!(!rule.actions.is_empty(), "{} must say what to do next", rule.name);
            }
        }
    }

    #[test]
    fn filled_in_values_are_not_templates_again() {
        assert_eq!(fill("'{a}' and '{b}'", &[("a", "{b}"), ("b", "x")]), "'{b}' and 'x'");
    }
}
