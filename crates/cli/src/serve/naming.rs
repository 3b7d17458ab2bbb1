//! From settings to how names are told over DNS.

use crate::serve::error::UsageError;
use crate::serve::settings::Settings;
use quorate_server::dns::{DnsAccess, DnsSettings, WhenStale};

/// None if nothing is to be listened on; the other flags are looked at all the same.
///
/// Errors: a value that cannot be used.
pub(super) fn naming(settings: &Settings) -> Result<Option<DnsSettings>, UsageError> {
    let mut dns = DnsSettings::default();
    let given = settings.text("listen-dns").unwrap_or_default();
    for part in given.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let address = part.parse().map_err(|_| settings.bad("listen-dns", "IP:PORT,.."))?;
        dns.listen.push(address);
    }
    for (name, target) in [("dns-zone", &mut dns.zone), ("dns-prefix", &mut dns.prefix)] {
        if let Some(text) = settings.text(name) {
            *target = text.to_owned();
        }
    }
    settings.duration("dns-ttl", &mut dns.ttl);
    settings.duration("dns-max-stale", &mut dns.max_stale);
    settings.number("dns-rate", &mut dns.rate)?;
    let (mut serve_stale, mut public) = (false, false);
    settings.switch("dns-serve-stale", &mut serve_stale);
    settings.switch("dns-public", &mut public);
    if serve_stale {
        dns.when_stale = WhenStale::Serve;
    }
    if public {
        dns.access = DnsAccess::Public;
    }
    Ok(Some(dns).filter(|dns| !dns.listen.is_empty()))
}
