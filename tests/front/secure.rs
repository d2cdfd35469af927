//! Both ends of TLS.

use crate::random::Random;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::sync::Arc;

/// A certificate, whose signatures have one length: so that a seed cuts the same records again.
pub struct Secure {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Secure {
    pub fn new() -> Secure {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key can be made");
        let params = CertificateParams::new(vec!["localhost".to_string()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate can be made").der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key of our own");
        Secure { certificate, key }
    }

    /// Made anew for each run, as it remembers sessions.
    pub fn server(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let config = builder.with_single_cert(vec![self.certificate.clone()], self.key.clone_key());
        let mut config = config.expect("the key is the certificate's");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// A session, and which version of TLS. `says`: it offers a protocol.
    pub fn client(&self, http2: bool, says: bool, random: &mut Random) -> (ClientConnection, &'static str) {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let (version, name) = if random.chance(700) { (&TLS13, "TLS 1.3") } else { (&TLS12, "TLS 1.2") };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).expect("a version");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        if says {
            config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        }
        if random.chance(300) {
            config.max_fragment_size = Some(random.between(64, 4_000) as usize);
        }
        let name_of_server = ServerName::try_from("localhost").expect("a name");
        let mut session = ClientConnection::new(Arc::new(config), name_of_server).expect("a session");
        session.set_buffer_limit(None);
        (session, name)
    }
}
