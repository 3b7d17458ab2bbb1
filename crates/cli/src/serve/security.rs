//! What the settings say about TLS.

use crate::serve::error::UsageError;
use crate::serve::settings::Settings;
use quorate_server::Config;
use quorate_server::tls::{Side, TlsVersion};
use std::path::PathBuf;

/// Enters everything about TLS.
///
/// Errors: a version that is none, or a number that is too large.
pub(super) fn security(settings: &Settings, config: &mut Config) -> Result<(), UsageError> {
    let path = |name: &str| settings.text(name).map(PathBuf::from);
    let list = |name: &str| settings.text(name).map(names).unwrap_or_default();
    let on = |name: &str| {
        let mut on = false;
        settings.switch(name, &mut on);
        on
    };
    let tls = &mut config.tls;
    tls.client = Side {
        cert_file: path("cert-file"),
        key_file: path("key-file"),
        dial_cert_file: path("client-cert-file"),
        dial_key_file: path("client-key-file"),
        trusted_ca_file: path("trusted-ca-file"),
        crl_file: path("client-crl-file"),
        client_cert_auth: on("client-cert-auth"),
        allowed_cn: Vec::new(),
        allowed_hostname: list("client-cert-allowed-hostname"),
        auto: on("auto-tls"),
        skip_client_san_verification: false,
    };
    tls.peer = Side {
        cert_file: path("peer-cert-file"),
        key_file: path("peer-key-file"),
        dial_cert_file: path("peer-client-cert-file"),
        dial_key_file: path("peer-client-key-file"),
        trusted_ca_file: path("peer-trusted-ca-file"),
        crl_file: path("peer-crl-file"),
        client_cert_auth: on("peer-client-cert-auth"),
        allowed_cn: list("peer-cert-allowed-cn"),
        allowed_hostname: list("peer-cert-allowed-hostname"),
        auto: on("peer-auto-tls"),
        skip_client_san_verification: on("peer-skip-client-san-verification"),
    };
    tls.cipher_suites = list("cipher-suites");
    let versions =
        [("tls-min-version", &mut tls.version_min), ("tls-max-version", &mut tls.version_max)];
    for (name, version) in versions {
        if let Some(text) = settings.text(name) {
            *version = text
                .parse::<TlsVersion>()
                .map_err(|()| settings.bad(name, "TLS1.2 or TLS1.3 (older ones are not safe)"))?;
        }
    }
    settings.number("self-signed-cert-validity", &mut tls.self_signed_years)
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
