//! `--tls-cert` and `--tls-key`, or `--tls-self-signed`: what clients are shown, read anew when its files change.

use super::serve::log;
use crate::front::Spoken;
use crate::io::clock::{Clock, Wall};
use crate::stdx::calendar::Civil;
use crate::stdx::trust::{self, provider};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, SignatureScheme, StreamOwned};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Turns of that after which a certificate of the local authority is made anew: a day, far within its two years.
const RENEW_LOOKS: u32 = 86_400 / 2;
/// The directory of the local authority, in the home.
const DIRECTORY: &str = "tls";
const AUTHORITY: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority-key.pem";
const DAY_US: u64 = 86_400_000_000;

#[derive(clap::Args, Clone, Debug)]
pub struct TlsArgs {
    /// Certificate chain in PEM, the server's own first: clients speak TLS, HTTP/1.1 or HTTP/2; read anew when the file changes
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "tls_self_signed")]
    tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// TLS with a certificate of a local authority, which is made once, under tls/ of the data directory; for localhost, this machine's
    /// name, the address of --listen, and the names given
    #[arg(long, value_name = "NAMES", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
    tls_self_signed: Option<Vec<String>>,
}

/// Where the certificate comes from.
#[derive(Clone, Debug)]
enum Source {
    Files { cert: PathBuf, key: PathBuf },
    Authority { directory: PathBuf, names: Vec<String> },
}

impl TlsArgs {
    pub fn is_on(&self) -> bool {
        self.tls_cert.is_some() || self.tls_self_signed.is_some()
    }

    /// What clients may speak; starts the thread that follows the files. `home`: the data directory. `plaintext`: also without TLS.
    pub fn spoken(&self, home: &Path, listen: SocketAddr, plaintext: bool) -> Result<Spoken, String> {
        let Some(source) = self.source(home, listen) else { return Ok(Spoken { tls: None, plaintext }) };
        let shown = Arc::new(Shown(RwLock::new(Arc::new(source.load()?))));
        let config = config(shown.clone())?;
        if let Source::Authority { directory, .. } = &source {
            log(&how_to_trust(&directory.join(AUTHORITY)));
        }
        let follow = move || follow(&source, &shown);
        thread::Builder::new().name("tls".to_string()).spawn(follow).map_err(|e| format!("no thread: {e}"))?;
        Ok(Spoken { tls: Some(Arc::new(config)), plaintext })
    }

    fn source(&self, home: &Path, listen: SocketAddr) -> Option<Source> {
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            return Some(Source::Files { cert: cert.clone(), key: key.clone() });
        }
        let mut names: Vec<String> = ["localhost", "*.localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
        names.extend(fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_string()));
        if !listen.ip().is_unspecified() {
            names.push(listen.ip().to_string());
        }
        names.extend(self.tls_self_signed.clone()?);
        names.retain(|name| !name.is_empty());
        names.sort();
        names.dedup();
        Some(Source::Authority { directory: home.join(DIRECTORY), names })
    }
}

/// What is shown to the next client.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().ok().map(|shown| shown.clone())
    }
}

fn config(shown: Arc<Shown>) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
    config.ignore_client_order = true;
    Ok(config)
}

impl Source {
    fn load(&self) -> Result<CertifiedKey, String> {
        match self {
            Source::Files { cert, key } => load(cert, key),
            Source::Authority { directory, names } => issue(directory, names),
        }
    }

    /// Changes when the files do.
    fn stamp(&self) -> Option<[(i64, i64, u64); 2]> {
        let Source::Files { cert, key } = self else { return None };
        let of = |path: &Path| fs::metadata(path).ok().map(|file| (file.mtime(), file.mtime_nsec(), file.ino()));
        Some([of(cert)?, of(key)?])
    }
}

fn load(cert: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let bad = |path: &Path, why: String| format!("{}: {why}", path.display());
    let read = CertificateDer::pem_file_iter(cert).and_then(|chain| chain.collect::<Result<Vec<_>, _>>());
    let chain = read.map_err(|error| bad(cert, format!("{error}")))?;
    if chain.is_empty() {
        return Err(bad(cert, "there is no certificate in it (BEGIN CERTIFICATE)".to_string()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, format!("{error}")))?;
    certified(chain, private).map_err(|why| bad(key, format!("{why}; --tls-cert is {}", cert.display())))
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, String> {
    let signing =
        aws_lc_rs::sign::any_supported_type(&key).map_err(|error| format!("the key cannot be used: {error}"))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) | Ok(()) => Ok(certified),
        Err(error) => Err(format!("the key is not the certificate's: {error}")),
    }
}

/// Takes what changes into use; what cannot be read is told, and what is in use stays.
fn follow(source: &Source, shown: &Shown) {
    let (mut stamp, mut looks) = (source.stamp(), 0);
    loop {
        thread::sleep(LOOK);
        looks += 1;
        let now = source.stamp();
        let due = matches!(source, Source::Authority { .. }) && looks % RENEW_LOOKS == 0;
        if !due && (now == stamp || now.is_none()) {
            continue;
        }
        stamp = now;
        match source.load() {
            Ok(certified) => {
                if let Ok(mut shown) = shown.0.write() {
                    *shown = Arc::new(certified);
                }
                log("TLS: the certificate has been read anew; connections from now on are shown it");
            }
            Err(why) => log(&format!("TLS: {why}; the certificate that was in use stays")),
        }
    }
}

/// A certificate of the local authority for `names`, which is made if there is none.
fn issue(directory: &Path, names: &[String]) -> Result<CertifiedKey, String> {
    let authority = authority(directory)?;
    let failed = |error: rcgen::Error| format!("no certificate can be made for {}: {error}", names.join(", "));
    let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "penstock");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid(&mut params, 2);
    let key = KeyPair::generate().map_err(failed)?;
    let issued = params.signed_by(&key, &authority).map_err(failed)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| format!("a key of our own: {error}"))?;
    certified(vec![issued.der().clone()], private)
}

fn authority(directory: &Path) -> Result<Issuer<'static, KeyPair>, String> {
    let (shown, kept) = (directory.join(AUTHORITY), directory.join(AUTHORITY_KEY));
    let bad = |error: rcgen::Error| format!("{}: {error}", kept.display());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "penstock local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, 20);
    if shown.exists() {
        let text = fs::read_to_string(&kept).map_err(|error| format!("{}: {error}", kept.display()))?;
        return Ok(Issuer::new(params, KeyPair::from_pem(&text).map_err(bad)?));
    }
    let key = KeyPair::generate().map_err(bad)?;
    let certificate = params.self_signed(&key).map_err(bad)?;
    let write = |path: &Path, text: &str, mode: u32| {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    // The certificate last: where it is, the key is.
    write(&kept, &key.serialize_pem(), 0o600)?;
    write(&shown, &certificate.pem(), 0o644)?;
    Ok(Issuer::new(params, key))
}

/// From yesterday on, as clocks differ.
fn valid(params: &mut CertificateParams, years: i32) {
    let today = Clock.now().wall;
    let civil = Civil::from_seconds(Wall(today.0.saturating_sub(DAY_US)).seconds());
    // The 29th of February is not in every year.
    let (year, month, day) = (civil.year as i32, civil.month, civil.day.min(28));
    params.not_before = rcgen::date_time_ymd(year, month, day);
    params.not_after = rcgen::date_time_ymd(year + years, month, day);
}

/// How each client is made to trust the local authority.
fn how_to_trust(path: &Path) -> String {
    let path = path.display();
    format!(
        "TLS with the local authority of {path}; clients trust it by: AWS_CA_BUNDLE={path} (Python, AWS CLI, Go), \
         NODE_EXTRA_CA_CERTS={path} (JavaScript), SSL_CERT_FILE={path} (Rust), \
         keytool -importcert -noprompt -alias penstock -file {path} -keystore penstock.jks -storepass changeit and \
         -Djavax.net.ssl.trustStore=penstock.jks -Djavax.net.ssl.trustStorePassword=changeit (Java)"
    )
}

/// A client's end of TLS with the server of a data directory that this process can read. Who it is shows by the key that it takes, which is
/// in that directory, so any certificate will do.
pub fn to_own_server(stream: TcpStream, address: IpAddr) -> Result<impl Read + Write, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider()))).with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), ServerName::from(address));
    Ok(StreamOwned::new(session.map_err(|error| format!("TLS: {error}"))?, stream))
}

/// Protocols that a client may name.
pub const HTTP_1: &[u8] = b"http/1.1";
pub const HTTP_2: &[u8] = b"h2";

/// What a client of this protocol trusts: the certificates in `file`, or those that the system has.
pub fn client(file: Option<&Path>, protocol: &[u8]) -> Result<Arc<ClientConfig>, String> {
    trust::config(file, &[protocol])
}

/// Takes every certificate whose key its sender has.
#[derive(Debug)]
struct Any(CryptoProvider);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
