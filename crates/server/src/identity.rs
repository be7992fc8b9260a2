//! Tokens and secrets: the service is its own token issuer.
//!
//! Tokens are ES256 JWTs whose claims look like those of the public cloud, because command lines decode them. Secrets are random and kept
//! as keyed hashes, compared in constant time. No token and no secret may be logged.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::clock::MICROS_PER_SECOND;
use crate::db::principals::Principal;
use crate::seal::{SealError, derive};

/// How long a token holds, seconds; clients are told the same.
pub const TOKEN_SECONDS: i64 = 3_599;
/// Clocks of clients and of several services differ by this much at most, seconds.
const LEEWAY_SECONDS: i64 = 300;
/// Audiences of the public resource manager: what an SDK asks for when it is only given another address.
const PUBLIC_AUDIENCES: &[&str] = &["https://management.azure.com", "https://management.core.windows.net"];

/// Why the identity cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The signing key does not work.
    #[error("the token signing key cannot be used: {0}")]
    SigningKey(#[from] jsonwebtoken::errors::Error),
    /// No key can be derived from the master key.
    #[error("a key cannot be derived from the master key: {0}")]
    Derive(#[from] SealError),
    /// The signing key is not the kind that was made.
    #[error("the token signing key is not an EC P-256 key")]
    NotP256,
}

/// Why a token is not taken; the text is told to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("The 'Authorization' header is missing or does not hold a bearer token.")]
    Missing,
    /// It is no token of this service.
    #[error("The access token is invalid: it was not issued by this service, or it was changed.")]
    Invalid,
    /// It is too old.
    #[error("The access token has expired.")]
    Expired,
    /// It is for another service.
    #[error("The access token has been obtained for wrong audience or resource.")]
    WrongAudience,
    /// Its principal was removed.
    #[error("The principal of the access token does not exist any more.")]
    UnknownPrincipal,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    appid: String,
    appidacr: String,
    idp: String,
    idtyp: String,
    oid: String,
    sub: String,
    tid: String,
    uti: String,
    ver: String,
}

/// Issues and checks tokens, makes and checks secrets.
pub struct Identity {
    tenant_id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    key_id: String,
    public_key: (String, String),
    hash_key: hmac::Key,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("tenant_id", &self.tenant_id)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// From the signing key and the master key (32 bytes).
    ///
    /// # Errors
    /// [`IdentityError`] when one of the keys cannot be used.
    pub fn new(signing_key: &KeyPair, master_key: &[u8], tenant_id: &str) -> Result<Self, IdentityError> {
        let point = signing_key.public_key_raw();
        let Some((4, coordinates)) = point.split_first().map(|(form, rest)| (*form, rest)) else {
            return Err(IdentityError::NotP256);
        };
        let (x, y) = coordinates.split_at_checked(32).ok_or(IdentityError::NotP256)?;
        let public_key = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, point);
        let hash_key = hmac::Key::new(hmac::HMAC_SHA256, derive(master_key, "hash client secrets")?.as_slice());
        Ok(Self {
            tenant_id: tenant_id.to_owned(),
            encoding: EncodingKey::from_ec_pem(signing_key.serialize_pem().as_bytes())?,
            decoding: DecodingKey::from_ec_components(&public_key.0, &public_key.1)?,
            key_id: URL_SAFE_NO_PAD.encode(&hash.as_ref()[..15]),
            public_key,
            hash_key,
        })
    }

    /// The tenant's GUID.
    pub fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// The key set (`/discovery/v2.0/keys`).
    pub fn key_set(&self) -> Value {
        json!({ "keys": [{
            "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "kid": self.key_id,
            "x": self.public_key.0, "y": self.public_key.1,
        }]})
    }

    /// A token for `principal`, valid from now on.
    ///
    /// # Errors
    /// [`IdentityError::SigningKey`] when signing fails.
    pub fn issue(
        &self,
        principal: &Principal,
        audience: &str,
        base_url: &str,
        now: i64,
    ) -> Result<String, IdentityError> {
        let seconds = now / MICROS_PER_SECOND;
        let issuer = format!("{base_url}/{}/", self.tenant_id);
        let claims = Claims {
            aud: audience.to_owned(),
            iss: issuer.clone(),
            iat: seconds,
            nbf: seconds,
            exp: seconds + TOKEN_SECONDS + 1,
            appid: principal.app_id.clone(),
            appidacr: "1".to_owned(),
            idp: issuer,
            idtyp: "app".to_owned(),
            oid: principal.object_id.clone(),
            sub: principal.object_id.clone(),
            tid: self.tenant_id.clone(),
            uti: uuid::Uuid::new_v4().simple().to_string(),
            ver: "1.0".to_owned(),
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        Ok(jsonwebtoken::encode(&header, &claims, &self.encoding)?)
    }

    /// Who a token speaks for. `own_urls` are the addresses of this service, without a slash at the end. Whether the principal still exists
    /// is for the caller of this function to find out.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(&self, token: &str, own_urls: &[String], now: i64) -> Result<Caller, TokenError> {
        let mut validation = Validation::new(Algorithm::ES256);
        // Time and audience are checked below: by the given clock, and against several spellings.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let data =
            jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).map_err(|_| TokenError::Invalid)?;
        let claims = data.claims;
        let seconds = now / MICROS_PER_SECOND;
        if claims.tid != self.tenant_id || claims.nbf > seconds + LEEWAY_SECONDS {
            return Err(TokenError::Invalid);
        }
        if claims.exp <= seconds {
            return Err(TokenError::Expired);
        }
        let audience = claims.aud.trim_end_matches('/').to_ascii_lowercase();
        let is_ours = own_urls.contains(&audience) || PUBLIC_AUDIENCES.contains(&audience.as_str());
        if !is_ours {
            return Err(TokenError::WrongAudience);
        }
        Ok(Caller { object_id: claims.oid, app_id: claims.appid })
    }

    /// What is stored of a secret: a keyed hash, hex.
    pub fn secret_hash(&self, secret: &str) -> String {
        hex::encode(hmac::sign(&self.hash_key, secret.as_bytes()))
    }

    /// The secret is the one whose hash is given; compared in constant time.
    pub fn secret_matches(&self, secret: &str, hash: &str) -> bool {
        hex::decode(hash).is_ok_and(|hash| hmac::verify(&self.hash_key, secret.as_bytes(), &hash).is_ok())
    }
}

/// A new random secret of 256 bits, in letters that need no quoting anywhere.
///
/// # Errors
/// [`SealError::Sealing`] when the machine has no randomness.
pub fn new_secret() -> Result<String, SealError> {
    let mut bytes = [0u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SealError::Sealing)?;
    // A dash in front would be taken for an option on a command line.
    Ok(format!("bk{}", URL_SAFE_NO_PAD.encode(bytes).replace('-', "~").replace('_', ".")))
}

#[cfg(test)]
mod tests {
    use super::{Identity, MICROS_PER_SECOND, TOKEN_SECONDS, TokenError, new_secret};
    use crate::db::principals::{Principal, PrincipalKind};

    const NOW: i64 = 1_700_000_000 * MICROS_PER_SECOND;
    const BASE: &str = "https://localhost:8443";

    fn identity() -> Identity {
        Identity::new(&rcgen::KeyPair::generate().unwrap(), &[3; 32], "tenant").unwrap()
    }

    fn principal() -> Principal {
        Principal {
            object_id: "oid".into(),
            app_id: "app".into(),
            name: "n".into(),
            kind: PrincipalKind::Application,
            resource_key: None,
            created_at: 0,
        }
    }

    fn check(audience: &str, now: i64) -> Result<String, TokenError> {
        let identity = identity();
        let token = identity.issue(&principal(), audience, BASE, NOW).unwrap();
        identity.check(&token, &[BASE.to_owned()], now).map(|caller| caller.object_id)
    }

    #[test]
    fn a_token_speaks_for_its_principal_until_it_expires() {
        assert_eq!(check(BASE, NOW).unwrap(), "oid");
        assert_eq!(check(BASE, NOW + TOKEN_SECONDS * MICROS_PER_SECOND).unwrap(), "oid");
        assert_eq!(check(BASE, NOW + (TOKEN_SECONDS + 2) * MICROS_PER_SECOND), Err(TokenError::Expired));
        assert_eq!(check(BASE, NOW - 3_600 * MICROS_PER_SECOND), Err(TokenError::Invalid));
    }

    #[test]
    fn audiences_of_this_service_and_of_the_public_one_are_taken() {
        for audience in [
            BASE,
            "https://localhost:8443/",
            "https://LOCALHOST:8443",
            "https://management.azure.com/",
            "https://management.core.windows.net",
        ] {
            assert!(check(audience, NOW).is_ok(), "{audience}");
        }
        for audience in
            ["https://localhost:9999", "https://graph.microsoft.com", "", "https://localhost:8443.evil.example"]
        {
            assert_eq!(check(audience, NOW), Err(TokenError::WrongAudience), "{audience}");
        }
    }

    #[test]
    fn tokens_of_others_are_refused() {
        let token = identity().issue(&principal(), BASE, BASE, NOW).unwrap();
        let own = [BASE.to_owned()];
        assert_eq!(identity().check(&token, &own, NOW), Err(TokenError::Invalid), "another installation's key");
        let same_key = rcgen::KeyPair::generate().unwrap();
        let one = Identity::new(&same_key, &[3; 32], "tenant").unwrap();
        let two = Identity::new(&same_key, &[3; 32], "other-tenant").unwrap();
        assert_eq!(two.check(&one.issue(&principal(), BASE, BASE, NOW).unwrap(), &own, NOW), Err(TokenError::Invalid));
        for nonsense in ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            assert_eq!(one.check(nonsense, &own, NOW), Err(TokenError::Invalid), "{nonsense}");
        }
    }

    #[test]
    fn secrets_are_compared_by_keyed_hash() {
        let identity = identity();
        let secret = new_secret().unwrap();
        let hash = identity.secret_hash(&secret);
        assert!(identity.secret_matches(&secret, &hash));
        assert!(
            !identity.secret_matches("other", &hash)
                && !identity.secret_matches(&secret, "")
                && !identity.secret_matches(&secret, "zz")
        );
        let elsewhere = Identity::new(&rcgen::KeyPair::generate().unwrap(), &[4; 32], "tenant").unwrap();
        assert!(!elsewhere.secret_matches(&secret, &hash), "the hash is keyed");
    }

    #[test]
    fn secrets_need_no_quoting() {
        let secret = new_secret().unwrap();
        assert!(secret.len() > 40 && secret.chars().all(|c| c.is_ascii_alphanumeric() || "~.".contains(c)), "{secret}");
        assert_ne!(secret, new_secret().unwrap());
    }
}
