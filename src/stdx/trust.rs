//! TLS as every end of it has it here: which ciphers, and whose certificates are believed.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where systems keep the certificates of authorities that they trust.
const TRUSTED: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// AES-128-GCM first: the fastest on a server's CPU, and as good as any.
pub fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let rank = |suite: &rustls::SupportedCipherSuite| !format!("{:?}", suite.suite()).contains("AES_128_GCM");
    provider.cipher_suites.sort_by_key(rank);
    provider
}

/// Of a client that believes whoever has a certificate of an authority in `file`, in PEM, or of one that the system trusts, and that offers `protocols`.
///
/// # Errors
/// Why it is not known which these are, for people.
pub fn config(file: Option<&Path>, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, String> {
    let known = || TRUSTED.iter().map(Path::new).find(|path| path.exists());
    let file = file
        .or_else(known)
        .ok_or("this system has no list of trusted certificates: a file of them has to be named (--ca)")?;
    let failed = |why: &dyn fmt::Display| format!("{}: {why}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
        // Systems have some that rustls does not take; those that are needed are missed when they are.
        let _ = roots.add(certificate.map_err(|error| failed(&error))?);
    }
    if roots.is_empty() {
        return Err(failed(&"it has no certificate of an authority"));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| format!("TLS: {error}"))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}
