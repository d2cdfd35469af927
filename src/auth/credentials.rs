//! Users, their access keys and policies, and who may look at metrics: what the operator's file says, and the table made from it.

use super::policy::Policy;
use super::policy_text;
use super::refusal::{Reason, Refused};
use super::stamp::Stamp;
use super::strict_json::Json;
use crate::kinesis::error::Kind;
use sha2::{Digest, Sha256};
use std::fmt;

/// The file is read into memory as a whole, again whenever it changes.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// The two that a rotation needs.
const ACTIVE_KEYS_MAX: usize = 2;
const USERS_MAX: usize = 10_000;
const OBSERVERS_MAX: usize = 64;
/// Shorter ones can be guessed from one request that somebody has seen.
const SECRET_MIN: usize = 16;
const SECRET_MAX: usize = 256;
/// What stands before a secret where keys are derived from it.
const DERIVED_FROM: &[u8] = b"AWS4";
/// A head has to hold it.
const SESSION_TOKEN_MAX: usize = 4096;

/// One access key.
pub struct Key {
    id: String,
    /// `AWS4` and the secret, as keys are derived from it.
    secret: Vec<u8>,
    token: Option<String>,
    /// Seconds since 1970.
    expires: Option<u64>,
    active: bool,
    pub user: u16,
}

pub struct User {
    pub name: String,
    pub policies: Vec<Policy>,
}

/// Who is let in. Made once, never changed: another file makes another table.
pub struct Access {
    users: Vec<User>,
    /// By id.
    keys: Vec<Key>,
    /// Hashes of bearer tokens: comparing them tells nothing of the tokens.
    observers: Vec<[u8; 32]>,
}

/// Without what is in it: it holds secrets.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users, {} keys", self.users.len(), self.keys.len())
    }
}

/// Each table is equal to itself only.
impl PartialEq for Access {
    fn eq(&self, other: &Access) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Access {}

impl Key {
    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Whether the key may be used with this session token at second `now`.
    pub(super) fn check_token(&self, token: Option<&[u8]>, now: u64) -> Result<(), Refused> {
        let same = match (&self.token, token) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Sha256::digest(ours) == Sha256::digest(theirs),
            _ => false,
        };
        if !self.active || !same {
            return Err(Refused::unknown_key());
        }
        match self.expires {
            Some(expires) if expires <= now => {
                let text = "The security token included in the request is expired";
                Err(Refused::new(Reason::ExpiredToken, Kind::ExpiredToken, text))
            }
            _ => Ok(()),
        }
    }
}

impl Access {
    /// The key with this id, and its place.
    pub(super) fn key(&self, id: &str) -> Option<(u32, &Key)> {
        let at = self.keys.binary_search_by(|key| key.id.as_str().cmp(id)).ok()?;
        Some((at as u32, &self.keys[at]))
    }

    /// For who proves that he knows it: the place of the key with this id, its user's, and the secret, where the key may be used with this session
    /// token at second `now`.
    pub fn secret_of(&self, id: &str, token: Option<&[u8]>, now: u64) -> Option<(u32, u16, &[u8])> {
        let (at, key) = self.key(id)?;
        key.check_token(token, now).ok()?;
        Some((at, key.user, key.secret.strip_prefix(DERIVED_FROM)?))
    }

    /// Whether the key at this place has not expired at second `now`.
    pub fn is_valid(&self, key: u32, now: u64) -> bool {
        self.keys[key as usize].expires.is_none_or(|expires| expires > now)
    }

    /// Where the key at this place of `former` is now, if it is as it was.
    pub fn kept(&self, former: &Access, key: u32) -> Option<u32> {
        let before = &former.keys[key as usize];
        let (at, after) = self.key(&before.id)?;
        let same = after.active && (&after.secret, &after.token) == (&before.secret, &before.token);
        (same && self.user(after.user).name == former.user(before.user).name).then_some(at)
    }

    pub fn user(&self, number: u16) -> &User {
        &self.users[number as usize]
    }

    pub fn users(&self) -> &[User] {
        &self.users
    }

    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The user who is called like user `number` of `former`.
    pub fn successor(&self, former: &Access, number: u16) -> Option<u16> {
        let name = &former.user(number).name;
        self.users.iter().position(|user| user.name == *name).map(|at| at as u16)
    }

    pub fn observes(&self, token: &[u8]) -> bool {
        let asked: [u8; 32] = Sha256::digest(token).into();
        self.observers.iter().fold(false, |found, observer| found | (*observer == asked))
    }

    /// From the text of the file; the error says where it is and what is wrong, and holds no secret.
    pub fn parse(text: &str) -> Result<Access, String> {
        let root = Json::parse(text)?;
        let mut access = Access { users: Vec::new(), keys: Vec::new(), observers: Vec::new() };
        for (name, value) in members(&root, "the file")? {
            match name.as_str() {
                "users" => access.read_users(value)?,
                "observers" => access.read_observers(value)?,
                other => return Err(unknown(other, "users, observers")),
            }
        }
        access.keys.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(pair) = access.keys.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(format!("the key id {} is there twice", pair[0].id));
        }
        Ok(access)
    }

    fn read_users(&mut self, users: &Json) -> Result<(), String> {
        let users = users.list().ok_or("users: must be a list")?;
        if users.len() > USERS_MAX {
            return Err(format!("users: more than {USERS_MAX}"));
        }
        for (at, user) in users.iter().enumerate() {
            let place = format!("users[{at}]");
            let user = self.read_user(user, &place)?;
            if self.users.iter().any(|other| other.name == user.name) {
                return Err(format!("{place}.name: {} is there twice", user.name));
            }
            self.users.push(user);
        }
        Ok(())
    }

    fn read_user(&mut self, user: &Json, place: &str) -> Result<User, String> {
        let (mut found, mut policies) = (None, Vec::new());
        let first = self.keys.len();
        for (member, value) in members(user, place)? {
            match member.as_str() {
                "name" => found = Some(name(value, &format!("{place}.name"))?),
                "keys" => {
                    let keys = value.list().ok_or_else(|| format!("{place}.keys: must be a list"))?;
                    for (at, key) in keys.iter().enumerate() {
                        let key = read_key(key, self.users.len() as u16, &format!("{place}.keys[{at}]"))?;
                        self.keys.push(key);
                    }
                }
                "policies" => {
                    let list = value.list().ok_or_else(|| format!("{place}.policies: must be a list"))?;
                    for (at, document) in list.iter().enumerate() {
                        let read = policy_text::identity(document);
                        policies.push(read.map_err(|why| format!("{place}.policies[{at}]: {why}"))?);
                    }
                }
                other => return Err(format!("{place}: {}", unknown(other, "name, keys, policies"))),
            }
        }
        let name = found.ok_or_else(|| format!("{place}: has no name"))?;
        if self.keys[first..].iter().filter(|key| key.active).count() > ACTIVE_KEYS_MAX {
            return Err(format!("{place}.keys: more than {ACTIVE_KEYS_MAX} are active"));
        }
        Ok(User { name, policies })
    }

    fn read_observers(&mut self, observers: &Json) -> Result<(), String> {
        let observers = observers.list().ok_or("observers: must be a list of bearer tokens")?;
        if observers.len() > OBSERVERS_MAX {
            return Err(format!("observers: more than {OBSERVERS_MAX}"));
        }
        for (at, token) in observers.iter().enumerate() {
            let token = secret(token, &format!("observers[{at}]"))?;
            self.observers.push(Sha256::digest(token).into());
        }
        Ok(())
    }
}

fn unknown(member: &str, known: &str) -> String {
    format!("{member} is not known; known are {known}")
}

fn members<'j>(json: &'j Json, place: &str) -> Result<&'j [(String, Json)], String> {
    json.object().ok_or_else(|| format!("{place}: must be an object"))
}

fn read_key(key: &Json, user: u16, place: &str) -> Result<Key, String> {
    let (mut id, mut found, mut active, mut token, mut expires) = (None, None, true, None, None);
    for (member, value) in members(key, place)? {
        let at = format!("{place}.{member}");
        match member.as_str() {
            "id" => id = Some(key_id(value, &at)?),
            "secret" => found = Some(secret(value, &at)?),
            "active" => active = value.bool().ok_or_else(|| format!("{at}: must be true or false"))?,
            "session_token" => token = Some(session_token(value, &at)?),
            "expires" => {
                let stamp = value.text().and_then(|text| Stamp::parse(text.as_bytes()));
                expires = Some(stamp.ok_or_else(|| format!("{at}: must be a time, as in 20260131T235959Z"))?.seconds);
            }
            other => return Err(format!("{place}: {}", unknown(other, "id, secret, active, session_token, expires"))),
        }
    }
    let id = id.ok_or_else(|| format!("{place}: has no id"))?;
    let found = found.ok_or_else(|| format!("{place}: has no secret"))?;
    if expires.is_some() && token.is_none() {
        return Err(format!("{place}.expires: only a key with a session_token expires; others are made inactive"));
    }
    Ok(Key { id, secret: [DERIVED_FROM, found.as_bytes()].concat(), token, expires, active, user })
}

fn name(value: &Json, place: &str) -> Result<String, String> {
    let fits = |name: &&str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
        (1..=64).contains(&name.len()) && name.bytes().all(allowed)
    };
    let rule = || format!("{place}: must be 1 to 64 letters, digits and +=,.@_-");
    value.text().filter(fits).map(str::to_owned).ok_or_else(rule)
}

fn key_id(value: &Json, place: &str) -> Result<String, String> {
    let fits = |id: &&str| (4..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rule = || format!("{place}: must be 4 to 128 letters, digits and underscores");
    value.text().filter(fits).map(str::to_owned).ok_or_else(rule)
}

/// The error does not show it.
fn secret<'j>(value: &'j Json, place: &str) -> Result<&'j str, String> {
    let fits = |secret: &&str| {
        (SECRET_MIN..=SECRET_MAX).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let rule = || format!("{place}: must be {SECRET_MIN} to {SECRET_MAX} printable characters of ASCII without blanks");
    value.text().filter(fits).ok_or_else(rule)
}

fn session_token(value: &Json, place: &str) -> Result<String, String> {
    let fits = |token: &&str| {
        (1..=SESSION_TOKEN_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let rule = || format!("{place}: must be 1 to {SESSION_TOKEN_MAX} printable characters of ASCII without blanks");
    value.text().filter(fits).map(str::to_owned).ok_or_else(rule)
}
