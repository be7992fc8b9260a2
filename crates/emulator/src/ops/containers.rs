//! Containers: create, delete, properties, metadata, access.

use http::StatusCode;

use super::Call;
use super::blob_headers as headers;
use crate::answer::Answer;
use crate::clock;
use crate::conditions::{Conditions, Validator};
use crate::error::AzureError;
use crate::model::container::{AccessPolicy, Container, PublicAccess};
use crate::model::lease::Leased;
use crate::xml;

const MAX_POLICIES: usize = 5;

fn marked(answer: Answer, container: &Container) -> Answer {
    answer
        .header("ETag", &format!("\"{}\"", container.etag))
        .header("Last-Modified", &clock::http_date(container.modified_us))
}

/// 3 to 63 lower-case letters, digits and single hyphens; or one of the system's names.
fn check_name(name: &str) -> Result<(), AzureError> {
    if matches!(name, "$root" | "$web" | "$logs" | "$blobchangefeed") {
        return Ok(());
    }
    if !(3..=63).contains(&name.len()) {
        return Err(AzureError::bad_request(
            "OutOfRangeInput",
            "The specified resource name length is not within the permissible limits.",
        ));
    }
    let allowed = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if allowed && !name.starts_with('-') && !name.ends_with('-') && !name.contains("--") {
        return Ok(());
    }
    Err(AzureError::bad_request("InvalidResourceName", "The specified resource name contains invalid characters."))
}

fn public_access(call: &Call<'_>) -> Result<PublicAccess, AzureError> {
    match call.request.filled_header("x-ms-blob-public-access") {
        None => Ok(PublicAccess::None),
        Some("blob") => Ok(PublicAccess::Blob),
        Some("container") => Ok(PublicAccess::Container),
        Some(other) => Err(AzureError::invalid_header("x-ms-blob-public-access", other)),
    }
}

/// Create Container.
pub(super) fn create(call: &Call<'_>) -> Result<Answer, AzureError> {
    check_name(call.container())?;
    let metadata = headers::metadata(call.request)?;
    let public = public_access(call)?;
    let mut world = call.shared.write();
    let stamp = world.stamp(call.now_us);
    let mut container = world.new_container(&stamp);
    let account = world.account_mut(call.account())?;
    if account.containers.contains_key(call.container()) {
        return Err(AzureError::conflict("ContainerAlreadyExists", "The specified container already exists."));
    }
    container.metadata = metadata;
    container.public = public;
    let answer = marked(Answer::new(StatusCode::CREATED), &container);
    account.containers.insert(call.container().to_owned(), container);
    Ok(answer)
}

/// Delete Container. The name is free at once; Azure takes half a minute.
pub(super) fn delete(call: &Call<'_>) -> Result<Answer, AzureError> {
    let mut world = call.shared.write();
    let container = world.container(call.account(), call.container())?;
    check_write(call, container, true)?;
    let removed = world.account_mut(call.account())?.containers.remove(call.container());
    drop(world);
    // Freeing many blobs takes a while and needs no lock.
    drop(removed);
    Ok(Answer::new(StatusCode::ACCEPTED))
}

/// Lease (which guards only against deletion) and conditions of a change.
fn check_write(call: &Call<'_>, container: &Container, guarded: bool) -> Result<(), AzureError> {
    let lease_id = call.request.filled_header("x-ms-lease-id");
    container.lease.guard(lease_id, guarded, Leased::Container, call.now_us)?;
    let validator = Validator { etag: &container.etag, modified_us: container.modified_us };
    Conditions::read(call.request, "")?.check_write(Some(validator))
}

/// Get Container Properties and Get Container Metadata.
pub(super) fn get_properties(call: &Call<'_>) -> Result<Answer, AzureError> {
    let world = call.shared.read();
    let container = world.container(call.account(), call.container())?;
    let lease_id = call.request.filled_header("x-ms-lease-id");
    container.lease.guard(lease_id, false, Leased::Container, call.now_us)?;
    let lease = container.lease.state(call.now_us);
    let answer = marked(Answer::new(StatusCode::OK), container)
        .header("x-ms-lease-status", lease.status())
        .header("x-ms-lease-state", lease.name())
        .maybe("x-ms-lease-duration", container.lease.duration(call.now_us))
        .maybe("x-ms-blob-public-access", container.public.name())
        .header("x-ms-has-immutability-policy", "false")
        .header("x-ms-has-legal-hold", "false")
        .header("x-ms-default-encryption-scope", "$account-encryption-key")
        .header("x-ms-deny-encryption-scope-override", "false");
    Ok(headers::with_metadata(answer, &container.metadata))
}

/// Set Container Metadata: all of it is replaced.
pub(super) fn set_metadata(call: &Call<'_>) -> Result<Answer, AzureError> {
    let metadata = headers::metadata(call.request)?;
    change(call, |container| container.metadata = metadata)
}

/// Changes a container and its marks.
fn change(call: &Call<'_>, act: impl FnOnce(&mut Container)) -> Result<Answer, AzureError> {
    let mut world = call.shared.write();
    let stamp = world.stamp(call.now_us);
    let container = world.container_mut(call.account(), call.container())?;
    check_write(call, container, false)?;
    act(container);
    container.etag = stamp.etag;
    container.modified_us = stamp.at_us;
    Ok(marked(Answer::new(StatusCode::OK), container))
}

/// Get Container ACL.
pub(super) fn get_acl(call: &Call<'_>) -> Result<Answer, AzureError> {
    let world = call.shared.read();
    let container = world.container(call.account(), call.container())?;
    let mut document = format!("{}<SignedIdentifiers>", xml::PROLOG);
    for policy in &container.policies {
        document.push_str("<SignedIdentifier>");
        xml::push_element(&mut document, "Id", &policy.id);
        document.push_str("<AccessPolicy>");
        for (name, value) in [("Start", &policy.start), ("Expiry", &policy.expiry), ("Permission", &policy.permissions)]
        {
            if let Some(value) = value {
                xml::push_element(&mut document, name, value);
            }
        }
        document.push_str("</AccessPolicy></SignedIdentifier>");
    }
    document.push_str("</SignedIdentifiers>");
    let answer = marked(Answer::new(StatusCode::OK), container);
    Ok(answer.maybe("x-ms-blob-public-access", container.public.name()).xml(document))
}

/// Set Container ACL: public access and stored access policies are replaced.
pub(super) fn set_acl(call: &Call<'_>) -> Result<Answer, AzureError> {
    let public = public_access(call)?;
    let policies = if call.body.is_empty() { Vec::new() } else { read_policies(call)? };
    change(call, |container| {
        container.public = public;
        container.policies = policies;
    })
}

fn read_policies(call: &Call<'_>) -> Result<Vec<AccessPolicy>, AzureError> {
    let mut policies: Vec<AccessPolicy> = Vec::new();
    for leaf in xml::leaves(&call.body)? {
        if leaf.name == "Id" {
            policies.push(AccessPolicy { id: leaf.text, ..AccessPolicy::default() });
            continue;
        }
        let Some(policy) = policies.last_mut() else { continue };
        match leaf.name.as_str() {
            "Start" => policy.start = Some(leaf.text),
            "Expiry" => policy.expiry = Some(leaf.text),
            "Permission" => policy.permissions = Some(leaf.text),
            _ => {}
        }
    }
    if policies.len() > MAX_POLICIES {
        return Err(AzureError::invalid_xml("there may be at most five stored access policies"));
    }
    Ok(policies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_containers_follow_the_rules() {
        for good in ["abc", "a-b-c", "$root", "123"] {
            check_name(good).unwrap();
        }
        for bad in ["ab", "Abc", "a--b", "-ab", "ab-", "a_b", "$other"] {
            check_name(bad).unwrap_err();
        }
    }
}
