//! Whether a request is signed with the secret of an access key.
//!
//! All but the body's hash is known from the head: [`Check::begin`] looks up the key, checks date and scope, and hashes the canonical request
//! as far as it goes. [`Check::feed`] takes the body as it arrives, [`Check::end`] compares. Nothing allocates but a refusal.

use super::canonical;
use super::credentials::Access;
use super::presented::{Presented, Scratch, SignedHead, of_hex, to_hex};
use super::refusal::{Reason, Refused};
use crate::kinesis::error::Kind;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Derived keys that a worker remembers: of so many access keys in use, with two services each now and then.
const KEYS_MAX: usize = 64;
const SCOPE_MAX: usize = 128;

/// What the server expects of a signature.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'e> {
    pub region: &'e str,
    pub service: &'static str,
    /// Seconds since 1970.
    pub now: u64,
}

/// A signature that is being verified.
#[derive(Clone)]
pub struct Check {
    /// Of the canonical request before the body's hash.
    canonical: Sha256,
    body: Sha256,
    key: [u8; 32],
    signature: [u8; 32],
    stamp: [u8; 16],
    scope: [u8; SCOPE_MAX],
    scope_len: u8,
    /// `X-Amz-Content-Sha256`.
    promised: Option<[u8; 32]>,
    user: u16,
}

impl Check {
    /// Of the request with this head.
    pub fn begin(
        head: &SignedHead<'_>,
        access: &Access,
        keys: &mut DerivedKeys,
        expected: &Expected<'_>,
    ) -> Result<Check, Refused> {
        let mut scratch = Scratch::new();
        let Some(presented) = Presented::parse(head, &mut scratch)? else { return Err(Refused::unsigned()) };
        let credential = &presented.credential;
        let (index, key) = access.key(credential.key).ok_or_else(Refused::unknown_key)?;
        key.check_token(presented.token, expected.now)?;
        check_scope(&presented, expected)?;
        presented.stamp.check(expected.now, presented.expires)?;
        let mut canonical = Sha256::new();
        canonical::write(head, &presented, &mut |piece: &[u8]| canonical.update(piece))?;
        let mut scope = [0; SCOPE_MAX];
        scope
            .get_mut(..credential.scope.len())
            .ok_or_else(Refused::mismatch)?
            .copy_from_slice(credential.scope.as_bytes());
        Ok(Check {
            canonical,
            body: Sha256::new(),
            key: keys.get(index, key.secret(), presented.stamp.day(), expected),
            signature: presented.signature,
            stamp: presented.stamp.text,
            scope,
            scope_len: credential.scope.len() as u8,
            promised: promised(head)?,
            user: key.user,
        })
    }

    /// The next bytes of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.body.update(bytes);
    }

    /// The body is whole: who has signed the request.
    pub fn end(mut self) -> Result<u16, Refused> {
        let hash: [u8; 32] = self.body.finalize().into();
        self.canonical.update(to_hex(&hash));
        let request: [u8; 32] = self.canonical.finalize().into();
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key may have any length");
        mac.update(b"AWS4-HMAC-SHA256\n");
        mac.update(&self.stamp);
        mac.update(b"\n");
        mac.update(&self.scope[..self.scope_len as usize]);
        mac.update(b"\n");
        mac.update(&to_hex(&request));
        // Takes the same time wherever the two differ.
        let genuine = mac.verify_slice(&self.signature).is_ok();
        match genuine && self.promised.is_none_or(|promised| promised == hash) {
            true => Ok(self.user),
            false => Err(Refused::mismatch()),
        }
    }

    /// The credentials have been replaced: `find` gives the place of its user in the new ones.
    pub fn follow(&mut self, find: impl Fn(u16) -> Option<u16>) -> bool {
        find(self.user).map(|user| self.user = user).is_some()
    }
}

fn check_scope(presented: &Presented<'_>, expected: &Expected<'_>) -> Result<(), Refused> {
    let credential = &presented.credential;
    if credential.region != expected.region {
        let text = format!("Credential should be scoped to a valid region, not '{}'. ", credential.region);
        return Err(Refused::scope(text));
    }
    if credential.service != expected.service {
        return Err(Refused::scope(format!(
            "Credential should be scoped to correct service: '{}'. ",
            expected.service
        )));
    }
    if credential.day.as_bytes() != presented.stamp.day() {
        let stamp = presented.stamp.as_str();
        let text = format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from '{stamp}'.",
            credential.day,
            &stamp[..8]
        );
        return Err(Refused::scope(text));
    }
    Ok(())
}

/// The hash of the body that the client has said, if it has.
fn promised(head: &SignedHead<'_>) -> Result<Option<[u8; 32]>, Refused> {
    let Some(value) = head.value("x-amz-content-sha256") else { return Ok(None) };
    let Some(hash) = of_hex(value) else {
        let value = String::from_utf8_lossy(value);
        let text = format!(
            "X-Amz-Content-Sha256 must be the SHA-256 of the body in hexadecimal digits; '{value}' is not served here."
        );
        return Err(Refused::new(Reason::Signature, Kind::InvalidSignature, text));
    };
    Ok(Some(hash))
}

/// The key of a day, of a secret that has `AWS4` before it.
pub(super) fn derive(secret: &[u8], day: &[u8], region: &str, service: &str) -> [u8; 32] {
    let key = hmac(secret, day);
    let key = hmac(&key, region.as_bytes());
    let key = hmac(&key, service.as_bytes());
    hmac(&key, b"aws4_request")
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

struct Derived {
    access_key: u32,
    day: [u8; 8],
    service: &'static str,
    key: [u8; 32],
}

/// Keys derived from secrets, for one region: deriving one takes twice as long as using it.
pub struct DerivedKeys {
    derived: Vec<Derived>,
    /// Which one goes next.
    next: usize,
}

impl DerivedKeys {
    pub fn new() -> DerivedKeys {
        DerivedKeys { derived: Vec::with_capacity(KEYS_MAX), next: 0 }
    }

    /// The credentials have been replaced.
    pub fn clear(&mut self) {
        self.derived.clear();
    }

    fn get(&mut self, access_key: u32, secret: &[u8], day: &[u8], expected: &Expected<'_>) -> [u8; 32] {
        let known = |of: &&Derived| of.access_key == access_key && of.day == day && of.service == expected.service;
        if let Some(known) = self.derived.iter().find(known) {
            return known.key;
        }
        let key = derive(secret, day, expected.region, expected.service);
        let day = day.try_into().expect("a day has eight digits");
        let derived = Derived { access_key, day, service: expected.service, key };
        match self.derived.len() < KEYS_MAX {
            true => self.derived.push(derived),
            false => {
                self.derived[self.next] = derived;
                self.next = (self.next + 1) % KEYS_MAX;
            }
        }
        key
    }
}

impl Default for DerivedKeys {
    fn default() -> DerivedKeys {
        DerivedKeys::new()
    }
}
