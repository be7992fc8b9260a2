//! Which addresses may be connected to. A caller of the service names endpoints; without this guard the service would
//! fetch from inside the operator's network on a stranger's behalf. Names are resolved here and checked by what they
//! resolve to, so that a name cannot change its meaning between check and use.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// A range of addresses, `10.0.0.0/8` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether `address` lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                u32::from(network).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                u128::from(network).checked_shr(shift) == u128::from(address).checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range of addresses: write it like 10.0.0.0/8 or fd00::/8");
        let (network, bits) = text.split_once('/').ok_or_else(wrong)?;
        let network: IpAddr = network.parse().map_err(|_| wrong())?;
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { network, bits })
    }
}

/// Which addresses may be connected to. Public ones always, link-local and multicast ones never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPolicy {
    /// 127.0.0.0/8 and ::1.
    pub allow_loopback: bool,
    /// Ranges that are not public and allowed nevertheless.
    pub allowed_ranges: Vec<Cidr>,
}

impl Default for AddressPolicy {
    /// Public addresses and loopback.
    fn default() -> Self {
        Self { allow_loopback: true, allowed_ranges: Vec::new() }
    }
}

impl AddressPolicy {
    /// For commands that an operator gives on the machine itself: every address but link-local and multicast.
    pub fn for_operator() -> Self {
        let every = [
            Cidr { network: IpAddr::V4(Ipv4Addr::UNSPECIFIED), bits: 0 },
            Cidr { network: IpAddr::V6(Ipv6Addr::UNSPECIFIED), bits: 0 },
        ];
        Self { allow_loopback: true, allowed_ranges: every.to_vec() }
    }

    /// Whether `address` may be connected to; `Err` says why not.
    ///
    /// # Errors
    /// The reason, naming the address.
    pub fn check(&self, address: IpAddr) -> Result<(), String> {
        let address = unwrapped(address);
        if is_never_allowed(address) {
            return Err(format!(
                "{address} is a link-local, multicast or platform address, which is never connected to"
            ));
        }
        if address.is_loopback() {
            return match self.allow_loopback {
                true => Ok(()),
                false => Err(format!("{address} is a loopback address, and the configuration does not allow those")),
            };
        }
        if is_public(address) || self.allowed_ranges.iter().any(|range| range.contains(address)) {
            return Ok(());
        }
        Err(format!("{address} is not a public address: allow its range in the configuration if this is meant"))
    }
}

/// IPv4 addresses come in IPv6 clothes too (mapped, NAT64, 6to4).
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    let parts = v6.segments();
    let v4_of = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match parts {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4_of(high, low),
        [0x2002, high, low, ..] => v4_of(high, low),
        _ => address,
    }
}

fn is_never_allowed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // 168.63.129.16 is the platform's own endpoint inside Azure, reachable from every machine there.
            v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4 == Ipv4Addr::new(168, 63, 129, 16)
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let is_special = a == 0
                || a >= 240
                || (a == 100 && b & 0xc0 == 64)
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && b & 0xfe == 18);
            !(v4.is_private() || v4.is_loopback() || v4.is_documentation() || is_special)
        }
        // Only 2000::/3 is handed out to the public; 2001:db8::/32 is for documentation.
        IpAddr::V6(v6) => {
            let parts = v6.segments();
            parts[0] & 0xe000 == 0x2000 && !(parts[0] == 0x2001 && parts[1] == 0x0db8)
        }
    }
}

/// Resolves names to allowed addresses only.
#[derive(Debug, Clone)]
pub(crate) struct GuardedResolver {
    pub(crate) policy: AddressPolicy,
}

impl GuardedResolver {
    async fn lookup(self, host: String) -> io::Result<std::vec::IntoIter<SocketAddr>> {
        let mut allowed = Vec::new();
        let mut refusal = None;
        for found in tokio::net::lookup_host((host.as_str(), 0)).await? {
            match self.policy.check(found.ip()) {
                Ok(()) => allowed.push(found),
                Err(reason) => refusal = Some(reason),
            }
        }
        match refusal {
            Some(reason) if allowed.is_empty() => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{host} is not connected to: {reason}")))
            }
            _ => Ok(allowed.into_iter()),
        }
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().lookup(name.as_str().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(policy: &AddressPolicy, address: &str) -> bool {
        policy.check(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn public_and_loopback_addresses_are_allowed_by_default() {
        let policy = AddressPolicy::default();
        for address in ["20.60.1.1", "8.8.8.8", "127.0.0.1", "::1", "2603:1030::1", "::ffff:8.8.8.8", "100.63.0.1"] {
            assert!(allows(&policy, address), "{address}");
        }
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a00:1::",
            "ff02::1",
            "::",
            "198.18.0.1",
            "2001:db8::1",
        ] {
            assert!(!allows(&policy, address), "{address}");
        }
    }

    #[test]
    fn configuration_widens_and_narrows() {
        let policy = AddressPolicy {
            allow_loopback: false,
            allowed_ranges: vec![
                "10.1.0.0/16".parse().unwrap(),
                "169.254.0.0/16".parse().unwrap(),
                "fd12::/16".parse().unwrap(),
            ],
        };
        assert!(allows(&policy, "10.1.2.3") && allows(&policy, "::ffff:10.1.2.3") && allows(&policy, "fd12::1"));
        assert!(!allows(&policy, "10.2.0.1") && !allows(&policy, "127.0.0.1") && !allows(&policy, "fd13::1"));
        assert!(!allows(&policy, "169.254.169.254"), "link-local is never allowed, whatever the configuration says");
        assert!(
            allows(&AddressPolicy::for_operator(), "10.2.0.1") && allows(&AddressPolicy::for_operator(), "fd00::1")
        );
        assert!(!allows(&AddressPolicy::for_operator(), "169.254.169.254"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        let guarded =
            |allow_loopback| GuardedResolver { policy: AddressPolicy { allow_loopback, allowed_ranges: Vec::new() } };
        assert!(guarded(true).lookup("localhost".into()).await.unwrap().count() > 0);
        let refused = guarded(false).lookup("localhost".into()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
