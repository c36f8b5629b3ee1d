//! Whose word a decision of an earlier hop is: macs by which a proxy vouches for what it has decided.
//!
//! What has crossed an application is no evidence by itself. The member `mulkko.mk` of `baggage` holds, for each
//! decision, `<rollout>.<hour>.<mac>`: the first 16 bytes of HMAC-SHA256 over
//! `mulkko/1\n<plugin name>\n<rollout>\n<variant>\n<hour>` in base64url, by a key that all proxies of the mesh share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac_sha256::HMAC;

use crate::baggage::Voucher;
use crate::finding::Problem;
use crate::pass::check_secret;
use crate::policy::{Policy, RolloutId};
use crate::schedule::VariantId;

/// The milliseconds of an hour: a mac is good in its hour, the one before and the one after.
const HOUR_MS: i64 = 3_600_000;
/// The bytes of a mac, and its characters.
const MAC_BYTES: usize = 16;
const MAC_CHARS: usize = 22;
/// The most bytes of `mulkko.mk` that are written, and read.
pub const MOST_BYTES: usize = 3_500;

/// A mac as it is written.
type Mac = [u8; MAC_CHARS];
/// The last mac of each decision, and its hour.
type Made = HashMap<(RolloutId, VariantId), (i64, Mac), foldhash::fast::RandomState>;

/// The secrets that a mesh shares: several, so that one can replace another. The first signs, each verifies.
#[derive(Clone, Default)]
pub struct MeshKeys(Vec<HMAC>);

impl MeshKeys {
    /// Takes one more secret, its bytes as they stand.
    ///
    /// # Errors
    /// `expected a mesh key of at least 32 bytes, found 5`; the other secrets stay in use.
    pub fn add(&mut self, secret: &[u8]) -> Result<(), Problem> {
        check_secret("a mesh key of at least 32 bytes", secret)?;
        self.0.push(HMAC::new(secret));
        Ok(())
    }
}

impl fmt::Debug for MeshKeys {
    /// Says how many there are, and no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshKeys({})", self.0.len())
    }
}

/// The hour of an instant (unix milliseconds).
#[must_use]
pub fn hour(now_ms: i64) -> i64 {
    now_ms.div_euclid(HOUR_MS)
}

/// The macs of one policy's decisions, each made when it is first needed in an hour.
pub struct Macs {
    /// The plugin's name.
    name: Box<str>,
    keys: Arc<MeshKeys>,
    made: Mutex<Made>,
}

impl fmt::Debug for Macs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Macs({}, {:?})", self.name, self.keys)
    }
}

impl Macs {
    /// Macs for the decisions of the plugin `name`. They belong to one policy, which numbers its rollouts.
    #[must_use]
    pub fn new(name: &str, keys: Arc<MeshKeys>) -> Macs {
        Macs { name: name.into(), keys, made: Mutex::default() }
    }

    /// Whether there is a key: without one nothing is followed, and nothing written.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.keys.0.is_empty()
    }

    /// What vouches for a decision in an hour, where `room` has as many bytes left as that takes. A mac that nobody would
    /// read is not made, however many rollouts a request meets.
    #[must_use]
    pub fn voucher(
        &self,
        policy: &Policy,
        id: RolloutId,
        variant: VariantId,
        hour: i64,
        room: &mut Room,
    ) -> Voucher {
        let name = policy.rollout(id).filter(|_| self.has_keys()).map(|rollout| &*rollout.name);
        let Some(name) = name else { return Voucher::None };
        let bytes = name.len() + hour.to_string().len() + MAC_CHARS + 2;
        if !room.take(bytes) {
            return Voucher::Dropped;
        }
        self.entry(policy, id, variant, hour).map_or(Voucher::None, Voucher::Entry)
    }

    /// The entry that vouches for a decision in an hour: `<rollout>.<hour>.<mac>`; `None` without a key.
    #[must_use]
    pub fn entry(&self, policy: &Policy, id: RolloutId, variant: VariantId, hour: i64) -> Option<String> {
        let mac = self.signed(policy, id, variant, hour)?;
        let rollout = policy.rollout(id)?;
        Some(format!("{}.{hour}.{}", rollout.name, str::from_utf8(&mac).ok()?))
    }

    /// Whether an entry vouches for a decision at `now_ms` (unix milliseconds).
    #[must_use]
    pub fn vouch(
        &self,
        policy: &Policy,
        (id, variant): (RolloutId, VariantId),
        entry: &Entry<'_>,
        now_ms: i64,
    ) -> bool {
        if !(-1..=1).contains(&hour(now_ms).saturating_sub(entry.hour)) {
            return false;
        }
        let Some(found) = entry.mac() else { return false };
        let is_ours = |mac: &Mac| is_same(mac, found);
        if entry.hour == hour(now_ms)
            && self.signed(policy, id, variant, entry.hour).is_some_and(|mac| is_ours(&mac))
        {
            return true;
        }
        self.keys
            .0
            .iter()
            .any(|key| self.mac(key, policy, id, variant, entry.hour).is_some_and(|mac| is_ours(&mac)))
    }

    /// The mac by the key that signs.
    fn signed(&self, policy: &Policy, id: RolloutId, variant: VariantId, hour: i64) -> Option<Mac> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.get(&(id, variant)).filter(|(of, _)| *of == hour).map(|(_, mac)| *mac);
        known.or_else(|| {
            let mac = self.mac(self.keys.0.first()?, policy, id, variant, hour)?;
            made.insert((id, variant), (hour, mac));
            Some(mac)
        })
    }

    fn mac(&self, key: &HMAC, policy: &Policy, id: RolloutId, variant: VariantId, hour: i64) -> Option<Mac> {
        let rollout = policy.rollout(id)?;
        let variant = rollout.variant(variant)?;
        let mut hmac = key.clone();
        for part in ["mulkko/1\n", &self.name, "\n", &rollout.name, "\n", &variant.name, "\n"] {
            hmac.update(part);
        }
        hmac.update(hour.to_string());
        let whole = hmac.finalize();
        let mut mac = [0; MAC_CHARS];
        Base64UrlUnpadded::encode(whole.get(..MAC_BYTES)?, &mut mac).ok()?;
        Some(mac)
    }
}

/// The room that entries of `mulkko.mk` have.
#[derive(Debug)]
pub struct Room(usize);

impl Default for Room {
    fn default() -> Room {
        // No dot stands before the first.
        Room(MOST_BYTES + 1)
    }
}

impl Room {
    /// Takes room for an entry of so many bytes, and the dot before it; whether there is so much.
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes + 1);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Compares in constant time.
fn is_same(mac: &Mac, found: &[u8; MAC_CHARS]) -> bool {
    let differing =
        mac.iter().zip(found).fold(0, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)));
    differing == 0
}

/// What `mulkko.mk` says of one rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The rollout.
    pub rollout: &'a str,
    /// The hour in which the mac was made.
    pub hour: i64,
    /// The entry as it came.
    pub text: &'a str,
}

impl<'a> Entry<'a> {
    fn mac(&self) -> Option<&'a [u8; MAC_CHARS]> {
        self.text.as_bytes().last_chunk()
    }
}

/// The entries of a value of `mulkko.mk`, in order. What is none ends it, and so does all that is beyond 3,500 bytes.
pub fn entries(value: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = value.get(..MOST_BYTES.min(value.len())).unwrap_or_default();
    std::iter::from_fn(move || {
        let mut parts = rest.splitn(4, '.');
        let (rollout, hour, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let is_mac = mac.len() == MAC_CHARS && !hour.is_empty() && hour.bytes().all(|b| b.is_ascii_digit());
        let text = rest.get(..rollout.len() + hour.len() + mac.len() + 2).filter(|_| is_mac)?;
        let hour = hour.parse().ok()?;
        rest = parts.next().unwrap_or_default();
        Some(Entry { rollout, hour, text })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Configuration;
    use crate::dry_run::DryRun;
    use crate::policy::Clusters;

    const NOW_MS: i64 = 1_800_000_000_000;
    const KEY: &[u8] = b"a mesh key of the tests, 32 bytes and more";

    fn keys(secrets: &[&[u8]]) -> Arc<MeshKeys> {
        let mut keys = MeshKeys::default();
        for secret in secrets {
            let _ = keys.add(secret);
        }
        Arc::new(keys)
    }

    fn policy() -> Policy {
        let text = br#"{"rollouts": [{"name": "next", "default": "a", "variants": {"a": {}, "b": {}},
            "strategy": {"dark": {"variant": "b"}}}]}"#;
        Policy::parse(text, &Clusters::default()).unwrap()
    }

    #[test]
    fn a_mac_is_the_first_half_of_an_hmac_over_name_rollout_variant_and_hour() {
        let macs = Macs::new("shop", keys(&[KEY]));
        let entry = macs.entry(&policy(), 0, VariantId(1), hour(NOW_MS)).unwrap();
        let whole = HMAC::mac("mulkko/1\nshop\nnext\nb\n500000", KEY);
        assert_eq!(entry, format!("next.500000.{}", Base64UrlUnpadded::encode_string(&whole[..16])));
        assert_eq!(Macs::new("shop", keys(&[b"short"])).entry(&policy(), 0, VariantId(1), 0), None);
    }

    #[test]
    fn macs_are_made_for_what_is_decided_and_has_room_alone() {
        let rollout = |i: usize| {
            let path = if i < 2_000 { "many".to_owned() } else { i.to_string() };
            format!(
                r#"{{"name": "r{i}", "matches": [{{"path": {{"value": "/{path}"}}}}], "default": "a",
                "variants": {{"a": {{}}, "b": {{}}}}, "strategy": {{"dark": {{"variant": "b"}}}}}}"#
            )
        };
        let rollouts: Vec<String> = (0..20_000).map(rollout).collect();
        let text = format!(r#"{{"rollouts": [{}]}}"#, rollouts.join(","));
        let policy = Policy::parse(text.as_bytes(), &Clusters::default()).unwrap();
        let mut run = DryRun::new(policy, &Configuration::parse(b"{}").unwrap(), NOW_MS);
        run.macs = Some(Macs::new("shop", keys(&[KEY])));
        let mut decided = |path: &str, now_ms| {
            run.host.now_ms = now_ms;
            let pairs =
                [(b":path".to_vec(), path.as_bytes().to_vec()), (b":method".to_vec(), b"GET".to_vec())];
            let dropped = run.decided(&pairs, |_, effects| effects.baggage_members_dropped);
            (dropped, run.macs.as_ref().unwrap().made.lock().unwrap().len())
        };
        // At the turn of an hour as in it.
        for now_ms in [NOW_MS - 1, NOW_MS, NOW_MS] {
            assert_eq!(decided("/2000", now_ms), (0, 1));
        }
        assert_eq!(decided("/2001", NOW_MS), (0, 2));
        // Entries of `r0` to `r9` have 32 bytes and a dot, the next ninety one more; 63 members have room beside them.
        let entries = 10 + (MOST_BYTES + 1 - 10 * 33) / 34;
        assert_eq!(decided("/many", NOW_MS), ((2_000 - entries) + (2_000 - 63), 2 + entries));
    }

    #[test]
    fn each_key_vouches_in_its_hour_and_the_two_beside_it() {
        let policy = policy();
        let other: &[u8] = b"another mesh key of the tests, 32 bytes and more";
        let decision = (0, VariantId(1));
        let by = |name: &str, key: &[u8], hour| {
            Macs::new(name, keys(&[key])).entry(&policy, 0, decision.1, hour).unwrap()
        };
        let now = hour(NOW_MS);
        let reading = Macs::new("shop", keys(&[KEY, other]));
        for (text, expected) in [
            (by("shop", KEY, now), true),
            (by("shop", KEY, now - 1), true),
            (by("shop", KEY, now + 1), true),
            (by("shop", KEY, now - 2), false),
            (by("shop", KEY, now + 2), false),
            (by("shop", other, now), true),
            (by("shop", b"a third mesh key that nobody else here has", now), false),
            (by("cart", KEY, now), false),
            (by("shop", KEY, now).replace(".500000.", ".500001."), false),
        ] {
            let entry = entries(&text).next().unwrap();
            assert_eq!(reading.vouch(&policy, decision, &entry, NOW_MS), expected, "{text}");
            assert!(!reading.vouch(&policy, (0, VariantId(0)), &entry, NOW_MS), "{text}");
            assert!(!Macs::new("shop", keys(&[])).vouch(&policy, decision, &entry, NOW_MS), "{text}");
        }
    }

    #[test]
    fn entries_are_read_up_to_the_first_that_is_none() {
        let mac = "AAAAAAAAAAAAAAAAAAAAAA";
        let one = format!("a.500000.{mac}");
        for (value, expected) in [
            (String::new(), 0),
            (one.clone(), 1),
            (format!("{one}.b-2.1.{mac}"), 2),
            (format!("{one}.b.1.{mac}."), 2),
            (format!("{one}.b.1"), 1),
            (format!("{one}.b.-1.{mac}"), 1),
            (format!("{one}.b.+1.{mac}"), 1),
            (format!("{one}.b.99999999999999999999.{mac}"), 1),
            (format!("{one}.b.1.{mac}A"), 1),
            (format!("{one}.b..{mac}"), 1),
            (vec![&*one; 200].join("."), MOST_BYTES.div_ceil(one.len() + 1) - 1),
            (format!("{}é", "a".repeat(MOST_BYTES - 1)), 0),
        ] {
            assert_eq!(entries(&value).count(), expected, "{value}");
            assert!(entries(&value).all(|it| it.text.starts_with(it.rollout) && it.mac().is_some()));
        }
    }
}
